"""What a reviewer asked a model and was answered, as its record keeps it, and answers it again from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core.errors import CallFailed, Failure
from nexa_core.records import Choice, Completion, Message, content_hash, mend_text

__all__ = ["LONGEST_REPLY", "RecordedAsker", "describe_ask"]

LONGEST_REPLY = 20_000
"""Characters of a reply that a record keeps; what is longer is no opinion."""

Prompt = str | tuple[Message, ...]


def describe_ask(
    role: str,
    number: int,
    prompt: Prompt,
    reply: Completion | None,
    error: str | None,
    model: str = "",
    call_id: str = "",
) -> dict[str, Any]:
    """One ask for the record: who was asked what (as a hash), and the raw reply or the error."""
    return {
        "role": role,
        "number": number,
        "call_id": call_id,
        "prompt_hash": _hash(prompt),
        "model": model,
        "served_by": reply.served_by if reply else None,
        "finish_reason": str(reply.finish_reason) if reply else None,
        "text": read_text(reply) if reply else None,
        "error": error and mend_text(error),
    }


def read_text(reply: Completion) -> str:
    """A reply's text as a reviewer and the record see it: whole characters, not too many."""
    return mend_text(reply.text)[: LONGEST_REPLY + 1]


class RecordedAsker:
    """Answers from a record, ask by ask, and asks no model.

    Raises CallFailed where the call had failed, and LookupError where the record has no such ask or
    the prompt is not the one that was asked.
    """

    def __init__(self, asks: Sequence[Mapping[str, Any]]) -> None:
        self.nonce = str(asks[0]["nonce"]) if asks else ""
        self._asks = {(str(ask["role"]), int(ask["number"])): ask for ask in asks}
        self._asked: Counter[str] = Counter()

    @property
    def roles(self) -> Sequence[str]:
        """The roles that were asked."""
        return list(dict.fromkeys(role for role, _ in self._asks))

    async def complete(
        self, prompt: Prompt, role: str | None = None, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """The recorded reply to this ask."""
        name = role or next(iter(self.roles), "")
        ask = self._asks.get((name, self._asked[name]))
        self._asked[name] += 1
        if ask is None or ask["prompt_hash"] != _hash(prompt):
            raise LookupError(f"the record holds no reply to ask {self._asked[name]} of '{name}'")
        if ask["error"] is not None:
            raise CallFailed(Failure.BAD_REPLY, str(ask["error"]))
        return Completion(str(ask["text"]), str(ask["finish_reason"]))

    async def choose(
        self, prompt: Prompt, options: Sequence[str], role: str | None = None
    ) -> Choice:
        """Reviewers ask for completions only."""
        raise LookupError("the record holds no choice")


def _hash(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return content_hash(prompt, 32)
    return content_hash([[message.role, message.content] for message in prompt], 32)
