"""The model that a role gets: nexa's protocol over a loaded model, working in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nexa_core import Choice, Completion, Usage, tell_form
from nexa_transformers import decoding
from nexa_transformers.decoding import Growth, split_head
from nexa_transformers.loading import Loaded, load
from nexa_transformers.sampling import Knobs, find_faults
from nexa_transformers.weights import find_hub, find_local

if TYPE_CHECKING:
    from nexa_core import Request, Role

Result = TypeVar("Result")
_SMALL = 100_000_000


def build_local(role: Role) -> LocalModel:
    """The model of `local/FOLDER` or `local/NAME`."""
    return LocalModel(role, load(find_local(role.reference), role.adapter))


def build_hub(role: Role) -> LocalModel:
    """The model of `hf/NAME` or `hf/NAME@REVISION`, from the local cache or the hub."""
    return LocalModel(role, load(find_hub(role.reference), role.adapter))


class LocalModel:
    """A model in this process. A row's tokens depend on its own request and seed.

    Which other rows are in its batch changes no more than the rounding of floats.
    """

    def __init__(self, role: Role, loaded: Loaded) -> None:
        self.name = role.model
        self.revision = loaded.revision
        given = role.batch if isinstance(role.batch, int) and role.batch is not True else None
        self.batch_size: int | None = given or (
            256 if loaded.model.num_parameters() < _SMALL else 32
        )
        self._loaded = loaded

    async def complete(self, request: Request) -> Completion:
        """The completion of one request; raises what `complete_many` would return."""
        return _raise((await self.complete_many([request]))[0])

    async def complete_many(self, requests: Sequence[Request]) -> Sequence[Completion | Exception]:
        """One completion per request, in order, or why that request cannot be answered."""
        return await self._work(lambda cancelled: self._complete(requests, cancelled))

    async def choose(self, request: Request, options: Sequence[str]) -> Choice:
        """The log-probabilities of the options after one prompt."""
        return _raise((await self.choose_many([request], options))[0])

    async def choose_many(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> Sequence[Choice | Exception]:
        """Natural log-probabilities of the options, over the whole vocabulary, after each prompt.

        Raises:
            ValueError: An option is not one token.
        """
        return await self._work(lambda _: self._choose(requests, options))

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return self._loaded.encoder.count(text)

    def preflight(self, sampling: Mapping[str, Any]) -> list[str]:
        """The sampling keys and values this model cannot do."""
        faults = find_faults(sampling)
        wanted = sampling.get("max_tokens") or 0
        if wanted >= self._loaded.context:
            faults.append(
                f"max_tokens {wanted} does not fit the context of {self._loaded.context} tokens"
            )
        return faults

    async def _work(self, task: Callable[[threading.Event], Result]) -> Result:
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._loaded.worker, task, cancelled
            )
        finally:
            cancelled.set()  # when this coroutine is cancelled, the thread stops at its next token

    def _complete(
        self, requests: Sequence[Request], cancelled: threading.Event
    ) -> list[Completion | Exception]:
        encoded = [self._encode(request, completes=True) for request in requests]
        answered = [at for at, ids in enumerate(encoded) if isinstance(ids, list)]
        prompts = [ids for ids in encoded if isinstance(ids, list)]
        asked = [requests[at] for at in answered]
        grown = iter(decoding.complete(self._loaded, asked, prompts, cancelled) if asked else ())
        shared = split_head(prompts) if self._loaded.shares_head else 0
        return [
            ids if isinstance(ids, Exception) else self._read(next(grown), len(ids), shared)
            for ids in encoded
        ]

    def _choose(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> list[Choice | Exception]:
        wanted = [self._loaded.encoder.find_single(option) for option in options]
        encoded = [self._encode(request, completes=False) for request in requests]
        fit = [ids for ids in encoded if isinstance(ids, list)]
        found = iter(decoding.choose(self._loaded, fit, wanted) if fit else ())
        shared = split_head(fit) if self._loaded.shares_head else 0
        return [
            ids
            if isinstance(ids, Exception)
            else Choice(next(found), Usage(len(ids), cached_tokens=shared), self._loaded.served_by)
            for ids in encoded
        ]

    def _encode(self, request: Request, completes: bool) -> list[int] | Exception:
        """The prompt's tokens, or why this request cannot be answered."""
        try:
            prompt = request.prompt
            if request.schema:
                prompt = tell_form(prompt, request.schema, "plain")
            ids = self._loaded.encoder.encode(prompt)
            room = Knobs.read(request.sampling).max_tokens if completes else 0
        except ValueError as fault:
            return fault
        if len(ids) + room > self._loaded.context:
            return ValueError(
                f"the prompt of {len(ids)} tokens and max_tokens {room} "
                f"do not fit the model's context of {self._loaded.context} tokens"
            )
        return ids

    def _read(self, growth: Growth, prompt_tokens: int, shared: int) -> Completion:
        return Completion(
            text=growth.text,
            finish_reason=growth.finish_reason,
            usage=Usage(prompt_tokens, len(growth.tokens), cached_tokens=shared),
            raw_text=growth.raw_text,
            served_by=self._loaded.served_by,
        )


def _raise(result: Result | Exception) -> Result:
    if isinstance(result, Exception):
        raise result
    return result
