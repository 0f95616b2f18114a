"""One call until it is answered or given up: admission, budget, journal, one try, settle, again.

This is the only layer that tries again. Every try has its own intent in the journal and its own
reservation, so that no request is unseen and none unpaid.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self

from nexa_core.engine.admission import LONGEST_PAUSE_SECONDS, Admission, DivertedError
from nexa_core.engine.budget import Budget, Reservation
from nexa_core.engine.machine import MachineTime
from nexa_core.engine.tries import (
    Answer,
    Caller,
    CallJournal,
    Line,
    class_of,
    expected_tokens,
    is_of_call,
    settle_try,
    tokens_used,
)
from nexa_core.errors import CallFailed, Failure, ModelError, NexaError
from nexa_core.events import CallsProgressed, Event, WarningRaised
from nexa_core.protocols import Model
from nexa_core.records import Request

MOST_TRIES = 6
"""Tries of one call. Those that a 429 refused, or that reached nobody, say nothing about the call and
do not count: admission spaces them out, and patience with the endpoint ends them."""
BACKOFF_SECONDS = (0.5, 30.0)
PATIENCE_SECONDS = 120.0
"""How long an endpoint may give nothing but failures before the run ends."""
LONG_PATIENCE_SECONDS = 900.0
"""How long it may only refuse for the rate, as one does whose quota of the day is used up."""
DEFAULT_CONCURRENCY = 256
HEARTBEAT_SECONDS = 0.05
LATE_FADES = 0.8
"""How much of the loop's worst delay is remembered from one heartbeat to the next."""
PROGRESS_SECONDS = 0.5

Ask = Callable[[Model, Request], Awaitable[Any]]


class Dispatch:
    """Sends the calls of a run; one for the whole run, so that limits and money are shared.

    `check_stop` raises when nothing new may go out; it is asked before every try. `on_event` is told
    twice a second how calls and money stand, and once of every request form that is refused.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        check_stop: Callable[[], None] = lambda: None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.budget = budget or Budget()
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self._on_event = on_event
        self._told: CallsProgressed | None = None
        self._forms_told: set[str] = set()
        self.admissions: dict[tuple[str, str], Admission] = {}
        self._check_stop = check_stop
        self._fatal: NexaError | None = None
        self._late = 0.0
        self._naps: set[asyncio.Future[None]] = set()
        self._heart: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._heart is not None:
            self._heart.cancel()
        self._tell()

    def check(self) -> None:
        """Raise where nothing new may go out: a stop was asked for, or one call ended the run."""
        if self._fatal is not None:
            raise self._fatal
        self._check_stop()

    async def send(
        self, caller: Caller, request: Request, journal: CallJournal | None, ask: Ask
    ) -> Answer:
        """Try until there is a reply, or no further try is worth it.

        Raises:
            NexaError: No call of this kind can succeed, or the money is used up; what is under way
                elsewhere goes on to its end, and nothing new goes out.
        """
        try:
            return await self._send(caller, request, journal, ask)
        except NexaError as error:
            self._end(error)
            raise

    def machine_time(self, caller: Caller) -> MachineTime:
        """The clock for work that a model of this process does for a role."""
        return MachineTime(self.budget, caller.role, caller.lines[0].role.usd_per_hour)

    async def _send(
        self, caller: Caller, request: Request, journal: CallJournal | None, ask: Ask
    ) -> Answer:
        answer = Answer(caller.model.name, datetime.now(UTC))
        born, counted = time.monotonic(), 0
        while True:
            line = self._choose_line(caller)
            admission = self._admission(line)
            try:
                began, held = await self._open(caller, line, admission, request, journal)
            except DivertedError:
                continue
            answer.model = line.model.name
            reply, failed = await self._try(line, request, ask)
            answer.seconds = time.monotonic() - began
            self._close(line, admission, began, held, request, reply, failed, answer, journal)
            if failed is None:
                return answer
            if not isinstance(failed, CallFailed):
                return answer
            counted += is_of_call(failed)
            if not failed.failure.may_pass or counted >= MOST_TRIES:
                return answer
            answer.tries += 1
            self._lose_patience(caller, failed, time.monotonic() - born)
            await self._back_off(failed, answer.tries - 1)

    def _choose_line(self, caller: Caller) -> Line:
        """The first model whose endpoint answers; the first of all when none does."""
        if len(caller.lines) == 1:
            return caller.lines[0]
        for line in caller.lines:
            if not self._admission(line).is_open:
                return line
        return caller.lines[0]

    def _admission(self, line: Line) -> Admission:
        found = self.admissions.get(line.address)
        if found is None:
            found = self.admissions[line.address] = Admission(
                line.role.concurrency or DEFAULT_CONCURRENCY,
                self_hosted=line.remote is not None and line.remote.self_hosted,
                rpm=line.role.rpm,
                tpm=line.role.tpm,
            )
        return found

    async def _open(
        self,
        caller: Caller,
        line: Line,
        admission: Admission,
        request: Request,
        journal: CallJournal | None,
    ) -> tuple[float, Reservation]:
        """A place, the money and the intent, in this order; a failure gives back what was taken."""
        self.check()
        expected = expected_tokens(line, request)
        await admission.enter(has_others=len(caller.lines) > 1, tokens=expected)
        try:
            held = await self.budget.reserve(caller.role, line.bound(request))
            try:
                self.check()
                if journal is not None:
                    journal.intend(
                        request.id, step=caller.step, role=caller.role, reserved_nano=held.nano
                    )
            except BaseException:
                held.release()
                raise
        except BaseException:
            admission.withdraw(expected)
            raise
        return time.monotonic(), held

    async def _try(self, line: Line, request: Request, ask: Ask) -> tuple[Any, Exception | None]:
        try:
            return await ask(line.model, request), None
        except Exception as cause:
            # A plugin's own mistake is this row's failure; the money it may have cost is at risk.
            return None, cause

    def _close(
        self,
        line: Line,
        admission: Admission,
        began: float,
        held: Reservation,
        request: Request,
        reply: Any,
        failed: Exception | None,
        answer: Answer,
        journal: CallJournal | None,
    ) -> None:
        """Settle what came, free the place; what no further try can mend is raised."""
        settle_try(failed or reply, request.id, line, held, answer, journal)
        if failed is None:
            used, completed, quota = (
                tokens_used(reply.usage),
                reply.usage.completion_tokens,
                reply.quota,
            )
            self.answered += 1
        else:
            used, completed, quota = 0, 0, None
            self.failures[class_of(failed)] += 1
            self._tell_form(failed)
        admission.charge_tokens(used - expected_tokens(line, request))
        if failed is None or isinstance(failed, CallFailed):
            admission.leave(began, failed, completed, quota, self._late)
        else:  # a refused key, a plugin's own mistake: no sign that the endpoint is well
            admission.withdraw()
        if isinstance(failed, NexaError):
            raise failed

    def _lose_patience(self, caller: Caller, failed: CallFailed, age: float) -> None:
        """Raise once none of a caller's endpoints has answered anything for long.

        `age` is for how many seconds this call has been wanted: while nobody asked, nothing was missed.
        """
        gates = [self._admission(line) for line in caller.lines]
        down = min(age, *(gate.down_seconds for gate in gates))
        silent = min(age, *(gate.silent_seconds for gate in gates))
        if down > PATIENCE_SECONDS or silent > LONG_PATIENCE_SECONDS:
            down = max(down, silent)
            named = "' and '".join(line.role.model for line in caller.lines)
            raise ModelError(
                f"'{named}' has given nothing but failures for {down:.0f} s, the last: {failed}.",
                "What was answered is kept: `nexa resume RUN` goes on when it works again; "
                "`fallbacks:` on the role names models that take over.",
            )

    async def _back_off(self, failed: CallFailed, tries: int) -> None:
        """Full jitter, at least what the provider asked for."""
        least = min(failed.retry_after or 0.0, LONGEST_PAUSE_SECONDS)
        first, most = BACKOFF_SECONDS
        seconds = least + random.uniform(0, min(most, first * 2 ** min(tries, 10)))
        await self.nap(seconds)

    async def nap(self, seconds: float) -> None:
        """Sleep; a stop or the end of the run wakes it with its error."""
        self.check()
        loop = asyncio.get_running_loop()
        nap: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, nap)
        self._naps.add(nap)
        try:
            await nap
        finally:
            timer.cancel()
            self._naps.discard(nap)

    async def _beat(self) -> None:
        """Wake whoever waits when a stop is asked for, and say how it goes."""
        told_at = 0.0
        while True:
            due = time.monotonic() + HEARTBEAT_SECONDS
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self._late = max(time.monotonic() - due, LATE_FADES * self._late)
            if time.monotonic() - told_at >= PROGRESS_SECONDS:
                told_at = time.monotonic()
                self._tell()
            try:
                self.check()
            except Exception as stopped:
                self._release_waiting(stopped)

    def _tell(self) -> None:
        gates, money = self.admissions.values(), self.budget
        if not gates and not money.committed:
            return
        event = CallsProgressed(
            sum(gate.under_way for gate in gates),
            sum(int(gate.limit) for gate in gates),
            self.answered,
            dict(self.failures),
            money.settled.total(),
            money.reserved,
            money.at_risk.total(),
            money.cap_nano,
        )
        if event != self._told:
            self._told = event
            self._on_event(event)

    def _tell_form(self, failed: Exception) -> None:
        """Say once for each model that its endpoint is asked for JSON in a weaker way from now on."""
        if isinstance(failed, CallFailed) and failed.failure is Failure.FORM:
            if failed.message not in self._forms_told:
                self._on_event(WarningRaised(f"{failed.message} from now on."))
            self._forms_told.add(failed.message)

    def _end(self, error: NexaError) -> None:
        self._fatal = self._fatal or error
        self._release_waiting(error)

    def _release_waiting(self, error: Exception) -> None:
        for admission in self.admissions.values():
            admission.give_up(error)
        self.budget.give_up(error)
        for nap in list(self._naps):
            if not nap.done():
                nap.set_exception(error)


def _finish(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
