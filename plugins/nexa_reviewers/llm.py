"""The `llm` reviewer: a model asked several times about the same evidence, and what most votes say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nexa_core import Asker, CallFailed, Completion, Evidence, Message, Opinion, Rubric
from nexa_reviewers.replies import InvalidReplyError, Vote, read_vote, write_schema
from nexa_reviewers.showing import show_evidence
from nexa_reviewers.voting import count_votes

__all__ = ["Llm", "LlmOptions"]

REASKS = 2


class LlmOptions(BaseModel):
    """`model` is the role that is asked; `votes` how often, each time with the evidence in another order."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    model: str
    votes: Annotated[int, Field(ge=1, le=9)] = 3
    prompt: str = "reviewer/opinion"
    instructions: Any = Field(default=None, exclude=True)


@dataclass
class _Ballot:
    """One vote under way: what was said so far, the vote once it is one, and what was wrong before."""

    messages: tuple[Message, ...]
    vote: Vote | None = None
    problem: str = ""
    is_over: bool = False


class Llm:
    """Proposes after a failure, may veto after a pass; what it cannot cite counts for nothing."""

    def __init__(self, options: LlmOptions) -> None:
        self.options = options
        self.prompt: Rubric = options.instructions

    async def review(self, evidence: Evidence, ask: Asker) -> Opinion:
        """The opinion of most votes; one without a majority proposes nothing and vetoes nothing."""
        schema = write_schema(evidence)
        ballots = [self._open(evidence, ask.nonce, vote) for vote in range(self.options.votes)]
        for _ in range(1 + REASKS):
            # Round by round, so that the order of the asks does not depend on who answers first.
            open_ = [ballot for ballot in ballots if not ballot.is_over]
            replies = await asyncio.gather(
                *(ask.complete(ballot.messages, self.options.model, schema) for ballot in open_),
                return_exceptions=True,
            )
            for ballot, reply in zip(open_, replies, strict=True):
                _take(ballot, reply)
        return count_votes([(one.vote, one.problem) for one in ballots], evidence)

    def _open(self, evidence: Evidence, nonce: str, vote: int) -> _Ballot:
        rendered = self.prompt.render({}, **show_evidence(evidence, nonce, vote))
        messages = (Message("user", rendered),) if isinstance(rendered, str) else rendered
        return _Ballot(messages)


def _take(ballot: _Ballot, reply: Completion | BaseException) -> None:
    """Read a reply into its ballot; one that is no vote is told so and asked again."""
    if isinstance(reply, CallFailed):
        ballot.problem, ballot.is_over = f"no reply: {reply}", True
        return
    if isinstance(reply, BaseException):
        raise reply
    text = reply.text.encode("utf-8", "replace").decode()
    try:
        ballot.vote, ballot.is_over = read_vote(text), True
    except InvalidReplyError as cause:
        ballot.problem = str(cause)
        told = f"That reply is not valid: {cause}. Reply again with the JSON object only."
        ballot.messages = (
            *ballot.messages,
            Message("assistant", text[:4_000]),
            Message("user", told[:1_000]),
        )
