"""A model that answers by a script: for tests of pipelines, without weights, a key or a network."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexa_core.records import Choice, Completion, Request, Usage

Script = Callable[[Request], "str | Completion | Exception"]
Chooser = Callable[[Request], Sequence[float]]


def echo_words(request: Request) -> str:
    """A reply made of the request's own hash: different for every prompt and seed, always the same."""
    text = f"{request.prompt}|{request.seed}|{sorted(request.sampling.items())}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 32, 4))


@dataclass
class ScriptedModel:
    """Answers each request by `script`, chooses by `chooser`, and remembers what it was asked.

    Args:
        script: Gives text, a whole Completion, or an exception that stands for a failed call.
        chooser: Gives the log-probabilities of the options.
        batch_size: None for a model asked one by one, a number for one that answers batches.
        seconds: How long each answer takes.

    Example:
        model = ScriptedModel(lambda request: "yes")
        assert asyncio.run(model.complete(Request("id", "a prompt"))).text == "yes"
    """

    script: Script = echo_words
    chooser: Chooser = lambda request: (-0.1, -2.4)
    batch_size: int | None = None
    seconds: float = 0.0
    name: str = "scripted"
    revision: str | None = "1"
    asked: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        """The scripted answer; a scripted exception is raised."""
        await self._wait(request)
        reply = self._answer(request)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def complete_many(self, requests: Sequence[Request]) -> Sequence[Completion | Exception]:
        """The scripted answers; a scripted exception stands in its place."""
        for request in requests:
            await self._wait(request)
        return [self._answer(request) for request in requests]

    async def choose(self, request: Request, options: Sequence[str]) -> Choice:
        """The scripted log-probabilities."""
        await self._wait(request)
        return Choice(tuple(self.chooser(request)), served_by=self.name)

    async def choose_many(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> Sequence[Choice | Exception]:
        """The scripted log-probabilities of every request."""
        return [await self.choose(request, options) for request in requests]

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def preflight(self, sampling: Mapping[str, Any]) -> list[str]:
        """Nothing speaks against any sampling."""
        return []

    async def _wait(self, request: Request) -> None:
        self.asked.append(request)
        if self.seconds:
            await asyncio.sleep(self.seconds)

    def _answer(self, request: Request) -> Completion | Exception:
        reply = self.script(request)
        if isinstance(reply, str):
            usage = Usage(self.count_tokens(str(request.prompt)), self.count_tokens(reply))
            return Completion(reply, usage=usage, raw_text=reply, served_by=self.name)
        return reply


@dataclass
class ScriptedRemote(ScriptedModel):
    """A scripted model that the engine treats as one behind an endpoint: limits, money and tries.

    Example:
        model = ScriptedRemote(lambda request: CallFailed(Failure.RATE_LIMIT, "slow down"))
    """

    endpoint: str = "http://127.0.0.1/scripted"
    self_hosted: bool = False

    def bound_tokens(self, request: Request) -> int:
        """Bytes, as every byte-level tokenizer is bounded."""
        return len(str(request.prompt).encode())

    async def aclose(self) -> None:
        """There is nothing to close."""
