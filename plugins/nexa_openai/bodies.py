"""Writes the body of a request: chat or completions, sampling by the endpoint's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexa_core import CallFailed, Failure, Request, tell_form, write_form
from nexa_openai.coding import encode
from nexa_openai.providers import Provider, is_reasoning

if TYPE_CHECKING:
    from nexa_core import Message, Mode, Role

FIXED = frozenset(["model", "messages", "prompt", "stream", "n", "best_of"]).union(
    ["max_tokens", "max_completion_tokens", "max_output_tokens"]
)
"""What a role's extra_body must not set: what is asked, and what it may cost; `sampling` has max_tokens."""


@dataclass(frozen=True)
class BodyWriter:
    """Writes bodies for one model. `extra` ends every body, so that the user's own words win."""

    model: str
    chat: bool
    renamed: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    top: int = 20

    def write(self, request: Request, mode: Mode = "schema") -> bytes:
        """The body that asks for a completion; `mode` says how for JSON of a form, where it asks that."""
        return encode(self.build(request, mode))

    def write_choice(self, request: Request) -> bytes:
        """The body that asks for the log-probabilities of the first token.

        Temperature and top_p are one, so that servers which tell probabilities after sampling
        tell the model's own.
        """
        body = self.build(request)
        body |= {"temperature": 1, "top_p": 1, self.renamed.get("max_tokens", "max_tokens"): 1}
        if self.chat:
            return encode(body | {"logprobs": True, "top_logprobs": self.top})
        return encode(body | {"logprobs": self.top})

    def build(self, request: Request, mode: Mode = "schema") -> dict[str, Any]:
        """The body as an object."""
        prompt, schema = request.prompt, request.schema
        if schema:
            prompt = tell_form(prompt, schema, mode)
        body: dict[str, Any] = {"model": self.model, **self._ask(prompt)}
        renamed = self.renamed
        for key, value in request.sampling.items():
            body[renamed.get(key, key)] = value
        if request.stop:
            body["stop"] = request.stop
        body["seed"] = request.seed
        if request.tools:
            body["tools"] = request.tools
        if schema:
            body.update(write_form(schema, mode))
        body.update(self.extra)
        return body

    def _ask(self, prompt: str | tuple[Message, ...]) -> dict[str, Any]:
        if not self.chat:
            if isinstance(prompt, str):
                return {"prompt": prompt}
            raise CallFailed(
                Failure.BAD_REQUEST, "messages were given to a model with `api: completions`"
            )
        if isinstance(prompt, str):
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"messages": [_write_message(message) for message in prompt]}


def make_writer(role: Role, provider: Provider, model: str, name: str) -> BodyWriter:
    """The writer for a role's model behind an endpoint."""
    chat = role.api == "chat"
    renamed = dict(provider.renamed)
    if chat and name == "openai" and (provider.key_host or is_reasoning(model)):
        renamed["max_tokens"] = "max_completion_tokens"
    extra = {"usage": {"include": True}} if provider.asks_cost else {}
    return BodyWriter(
        model, chat, renamed, {**extra, **role.extra_body}, provider.top[0 if chat else 1]
    )


def _write_message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = message.tool_calls
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn
