"""Calls that a provider answers later and cheaper: sent as batches, found again, reconciled row by row.

A batch has a nonce that is journaled before the batch is created and kept in its metadata. A process
that takes the work up again finds the batch by its id or its nonce before it creates another.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from nexa_core.engine.budget import Reservation
from nexa_core.engine.dispatch import MOST_TRIES, Dispatch
from nexa_core.engine.tries import Answer, Caller, CallJournal, Line, settle_try
from nexa_core.errors import BudgetError, CallFailed, Charge, Failure, ModelError
from nexa_core.protocols import BatchModel, BatchState
from nexa_core.records import Request

T = TypeVar("T")
POLL_SECONDS = (1.0, 60.0)
ROUNDS = 3
"""How many batches a request may be part of before its failure stands."""
KEY = "batch:"
"""The head of the journal's key for a batch; its nonce follows."""


@dataclass
class Chunk:
    """The requests of one batch, with what is reserved for each."""

    nonce: str
    requests: list[Request]
    held: dict[str, Reservation] = field(default_factory=dict)
    batch_id: str | None = None


@dataclass
class Deferred:
    """The batched calls of one shard.

    `known` and `begun` are what an earlier process journaled: replies by call id, batches among them,
    and the intents without an end.
    """

    dispatch: Dispatch
    caller: Caller
    journal: CallJournal | None
    known: Mapping[str, Mapping[str, Any]]
    begun: Mapping[str, Mapping[str, Any]]

    @cached_property
    def line(self) -> Line:
        """The model, at the price that its provider asks for batches."""
        line = self.caller.lines[0]
        return replace(line, rates=line.rates.batched()) if line.rates is not None else line

    @property
    def model(self) -> BatchModel:
        assert isinstance(self.line.model, BatchModel)
        return self.line.model

    async def ask(self, requests: Sequence[Request]) -> dict[str, Answer]:
        """An answer for each request; those that failed and may pass are part of a later batch.

        Raises:
            BudgetError: Not even one request more may be paid for.
            RunInterrupted: A stop was asked for; batches that were created run on, to be found again.
        """
        answers: dict[str, Answer] = {}
        started_at = datetime.now(UTC)
        left = list(requests)
        async for chunk in self._take_up(left):
            await self._finish(chunk, answers, started_at)
        for _ in range(ROUNDS):
            left = [r for r in requests if r.id not in answers or _may_pass(answers[r.id])]
            if not left:
                break
            async for chunk in self._split(left):
                await self._create(chunk)
                await self._finish(chunk, answers, started_at)
        return answers

    async def _take_up(self, requests: Sequence[Request]) -> AsyncIterator[Chunk]:
        """The batches that an earlier process began and did not see the end of."""
        chunks: dict[str, Chunk] = {}
        for request in requests:
            frame = self.begun.get(request.id)
            if frame is None or "nonce" not in frame:
                continue
            chunk = chunks.setdefault(frame["nonce"], Chunk(frame["nonce"], []))
            chunk.requests.append(request)
            # The dead process left this at risk; now it is known to be under way, or not.
            nano = frame.get("reserved_nano") or 0
            chunk.held[request.id] = self.dispatch.budget.reclaim(self.caller.role, nano)
        for chunk in chunks.values():
            frame = self.known.get(f"{KEY}{chunk.nonce}", {})
            chunk.batch_id = frame.get("reply", {}).get("batch_id") or await self._find(chunk.nonce)
            if chunk.batch_id is None:
                self._close_all(chunk, "the batch was never created")
            else:
                yield chunk

    async def _split(self, requests: Sequence[Request]) -> AsyncIterator[Chunk]:
        """Chunks that fit the provider's limits and the money there is."""
        left = list(requests)
        while left:
            self.dispatch.check()
            chunk, size = Chunk("", []), 0
            while left and len(chunk.requests) < self.model.most_requests:
                size += self.model.measure(left[0])
                if chunk.requests and size > self.model.most_bytes:
                    break
                try:
                    nano = self.line.bound(left[0])
                    held = self.dispatch.budget.reserve_now(self.caller.role, nano)
                except BudgetError:
                    if chunk.requests:
                        break
                    raise
                chunk.held[left[0].id] = held
                chunk.requests.append(left.pop(0))
            ids = "\n".join(request.id for request in chunk.requests)
            chunk.nonce = hashlib.sha256(f"{time.time_ns()}\n{ids}".encode()).hexdigest()[:32]
            yield chunk

    async def _create(self, chunk: Chunk) -> None:
        for request in chunk.requests:
            if self.journal is not None:
                self.journal.intend(
                    request.id,
                    step=self.caller.step,
                    role=self.caller.role,
                    reserved_nano=chunk.held[request.id].nano,
                    nonce=chunk.nonce,
                )
        state: BatchState | None = None
        for tries in range(1, MOST_TRIES + 1):
            try:
                state = await self.model.create_batch(chunk.requests, chunk.nonce)
                break
            except CallFailed as failed:
                if not failed.failure.may_pass or tries == MOST_TRIES:
                    self._close_all(chunk, f"the batch could not be created: {failed}")
                    raise self._give_up(failed) from failed
                await self.dispatch.nap(_backoff(tries))
                # The failure may have come after the batch had been started.
                found = await self._find(chunk.nonce)
                if found is not None:
                    state = BatchState(found, "running")
                    break
            except ModelError:
                self._close_all(chunk, "the batch was refused")
                raise
        assert state is not None
        chunk.batch_id = state.id
        if self.journal is not None:
            self.journal.reply(
                f"{KEY}{chunk.nonce}", role=self.caller.role, reply={"batch_id": state.id}
            )

    async def _finish(self, chunk: Chunk, answers: dict[str, Answer], started_at: datetime) -> None:
        assert chunk.batch_id is not None
        began, batch_id = time.monotonic(), chunk.batch_id
        state = await self._wait(batch_id)
        results = await self._patiently(lambda: self.model.fetch_batch(batch_id))
        for request in chunk.requests:
            answer = answers.setdefault(
                request.id, Answer(self.line.model.name, started_at, tries=0)
            )
            answer.tries += 1
            answer.seconds = time.monotonic() - began
            found = results.get(request.id) or _missing(state)
            held = chunk.held[request.id]
            settle_try(found, request.id, self.line, held, answer, self.journal)

    async def _wait(self, batch_id: str) -> BatchState:
        pause = POLL_SECONDS[0]
        while True:
            state = await self._patiently(lambda: self.model.poll_batch(batch_id))
            if state.status != "running":
                return state
            await self.dispatch.nap(pause * random.uniform(0.9, 1.1))
            pause = min(1.5 * pause, POLL_SECONDS[1])

    async def _find(self, nonce: str) -> str | None:
        state = await self._patiently(lambda: self.model.find_batch(nonce))
        return None if state is None else state.id

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask what costs nothing until it is answered, or nothing has come for too long."""
        for tries in range(1, MOST_TRIES + 1):
            try:
                return await ask()
            except CallFailed as failed:
                if not failed.failure.may_pass or tries == MOST_TRIES:
                    raise self._give_up(failed) from failed
                await self.dispatch.nap(_backoff(tries, failed.retry_after))
        raise AssertionError("unreachable")

    def _give_up(self, failed: CallFailed) -> ModelError:
        return ModelError(
            f"The batches of '{self.line.role.model}' cannot be reached: {failed}.",
            "What was sent and answered is kept: `nexa resume RUN` finds the batches again.",
        )

    def _close_all(self, chunk: Chunk, why: str) -> None:
        for request in chunk.requests:
            if self.journal is not None:
                self.journal.fail(request.id, role=self.caller.role, error=why)
            chunk.held[request.id].release()


def _missing(state: BatchState) -> CallFailed:
    """What became of a request without a line; one of a batch that was cut short was not worked on."""
    if state.status == "done":
        message = "the batch has no line for this request"
        return CallFailed(Failure.BAD_REPLY, message, Charge.UNKNOWN)
    why = f": {state.reason}" if state.reason else ""
    return CallFailed(Failure.OVERLOAD, f"the batch is {state.status}{why}")


def _may_pass(answer: Answer) -> bool:
    return isinstance(answer.error, CallFailed) and answer.error.failure.may_pass


def _backoff(tries: int, least: float | None = None) -> float:
    return (least or 0.0) + random.uniform(0, min(30.0, 0.5 * 2**tries))
