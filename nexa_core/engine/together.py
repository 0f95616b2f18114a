"""Asks of many rows, gathered for a provider's batches: they go out once every row waits for one."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.requests import Subject
from nexa_core.engine.tries import Caller
from nexa_core.records import Request

__all__ = ["Together", "gather_whole"]

Result = TypeVar("Result")
QUIET_SECONDS = 0.02
"""Without a new ask, once every row waits: the roles of a panel are asked one after the other."""
PATIENCE_SECONDS = 5.0
"""Without a new ask, while some rows still do other things: they may be waiting for each other."""

_row: ContextVar[int] = ContextVar("row")


class _Ask(NamedTuple):
    caller: Caller
    request: Request
    subject: Subject
    row: int
    outcome: asyncio.Future[Outcome]


@dataclass
class Together:
    """Calls for works that ask one request at a time, one work a row; use `run` once.

    Roles with a provider's batches are asked for all rows that wait, by each role's own batches;
    everything else goes out at once.
    """

    calls: Calls
    _asks: dict[str, list[_Ask]] = field(default_factory=lambda: defaultdict(list))
    """What has not gone out, by role."""
    _blocked: Counter[int] = field(default_factory=Counter)
    """Asks of each row that have no outcome yet."""
    _left: int = 0
    """Works that are not done."""
    _timer: asyncio.TimerHandle | None = None
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def only_known(self) -> bool:
        """Nothing is asked."""
        return self.calls.only_known

    async def run(self, works: Iterable[Awaitable[Result]]) -> list[Result]:
        """Every result; one that ends the run lets its siblings come to their end first."""
        works = list(works)
        self._left = len(works)
        try:
            return await gather_whole(self._follow(n, work) for n, work in enumerate(works))
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def complete(
        self, caller: Caller, requests: Sequence[Request], subjects: Sequence[Subject]
    ) -> list[Outcome]:
        """As `Calls.complete`; within `run`, a role with batches is asked for all rows at once."""
        row = _row.get(None)
        if row is None or not caller.is_batched:
            return await self.calls.complete(caller, requests, subjects)
        loop = asyncio.get_running_loop()
        asks = [
            _Ask(caller, request, subject, row, loop.create_future())
            for request, subject in zip(requests, subjects, strict=True)
        ]
        self._asks[caller.role] += asks
        self._blocked[row] += len(asks)
        self._wait()
        return list(await asyncio.gather(*(ask.outcome for ask in asks)))

    async def choose(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        options: Sequence[str],
    ) -> list[Outcome]:
        """As `Calls.choose`: batches give no log-probabilities."""
        return await self.calls.choose(caller, requests, subjects, options)

    async def _follow(self, row: int, work: Awaitable[Result]) -> Result:
        _row.set(row)
        try:
            return await work
        finally:
            self._left -= 1
            self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._asks:
            all_wait = len(+self._blocked) >= self._left
            seconds = QUIET_SECONDS if all_wait else PATIENCE_SECONDS
            self._timer = asyncio.get_running_loop().call_later(seconds, self._send)

    def _send(self) -> None:
        for asks in self._asks.values():
            task = asyncio.ensure_future(self._answer(asks))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._asks.clear()

    async def _answer(self, asks: Sequence[_Ask]) -> None:
        requests, subjects = [ask.request for ask in asks], [ask.subject for ask in asks]
        try:
            outcomes = await self.calls.complete(asks[0].caller, requests, subjects)
        except BaseException as error:
            for ask in self._released(asks):
                ask.outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            found = dict(zip(map(id, asks), outcomes, strict=True))
            for ask in self._released(asks):
                ask.outcome.set_result(found[id(ask)])

    def _released(self, asks: Sequence[_Ask]) -> list[_Ask]:
        """The asks that are still waited for; their rows go on."""
        self._blocked.subtract(ask.row for ask in asks)
        return [ask for ask in asks if not ask.outcome.done()]


async def gather_whole(works: Iterable[Awaitable[Result]]) -> list[Result]:
    """Every result; one that ends the run lets its siblings come to their end first."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]
