"""One call until it is answered or given up: admission, budget, journal, one try, settle, again.

This is the only layer that tries again. Every try has its own intent in the journal and its own
reservation, so that no request is unseen and none unpaid.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol, Self

from nexa_core.engine.admission import LONGEST_PAUSE_SECONDS, Admission, DivertedError
from nexa_core.engine.budget import Budget, Reservation
from nexa_core.engine.machine import MachineTime
from nexa_core.errors import CallFailed, Charge, Failure, ModelError, NexaError
from nexa_core.events import CallsProgressed, Event, WarningRaised
from nexa_core.pipeline import Role
from nexa_core.prices import Rates
from nexa_core.protocols import BatchModel, Model, RemoteModel
from nexa_core.records import Request, Usage, encode_json

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


class CallJournal(Protocol):
    """What calls need of a journal."""

    def intend(self, call_id: str, **fields: Any) -> None: ...

    def reply(self, call_id: str, **fields: Any) -> None: ...

    def fail(self, call_id: str, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Line:
    """A model as a role uses it. `rates` is None where tokens cost nothing or nobody knows what."""

    model: Model
    role: Role
    rates: Rates | None = None

    @cached_property
    def remote(self) -> RemoteModel | None:
        """The model where it stands behind an endpoint."""
        return self.model if isinstance(self.model, RemoteModel) else None

    @cached_property
    def address(self) -> tuple[str, str]:
        """What limits are kept for: endpoint and model."""
        return self.remote.endpoint if self.remote else "", self.model.name

    def bound(self, request: Request) -> int:
        """The most one try may cost, in nano-dollars."""
        if self.rates is None or self.remote is None:
            return 0
        return self.rates.bound(self.remote.bound_tokens(request), most_tokens(request))

    def price(self, usage: Usage) -> int:
        """What a reply cost, in nano-dollars: as billed where it says so."""
        if usage.cost_nano is not None:
            return usage.cost_nano
        return self.rates.cost(usage) if self.rates is not None else 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the step and the role, and the models that may answer, the first preferred."""

    step: str
    role: str
    lines: tuple[Line, ...]

    @property
    def model(self) -> Model:
        """The model that is asked first."""
        return self.lines[0].model

    @property
    def is_batched(self) -> bool:
        """Whether completions come from the provider's batch endpoint."""
        line = self.lines[0]
        return line.role.batch is True and isinstance(line.model, BatchModel)


@dataclass(slots=True)
class Answer:
    """What became of a call: the reply or the error in its place, and what the tries cost."""

    model: str
    started_at: datetime
    reply: Any = None
    encoded: bytes = b""
    """The reply as JSON."""
    error: Exception | None = None
    seconds: float = 0.0
    tries: int = 1
    failures: list[str] = field(default_factory=list)
    cost_nano: int = 0
    at_risk_nano: int = 0


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
        counted = 0
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
            counted += _is_of_call(failed)
            if not failed.failure.may_pass or counted >= MOST_TRIES:
                return answer
            answer.tries += 1
            self._lose_patience(caller, failed)
            await self._back_off(failed, answer.tries - 1)

    def _choose_line(self, caller: Caller) -> Line:
        """The first model whose endpoint answers; the first of all when none does."""
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
        await admission.enter(has_others=len(caller.lines) > 1)
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
            admission.withdraw()
            raise
        admission.charge_tokens(_expected_tokens(line, request))
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
                _tokens(reply.usage),
                reply.usage.completion_tokens,
                reply.quota,
            )
            self.answered += 1
        else:
            used, completed, quota = 0, 0, None
            self.failures[_class_of(failed)] += 1
            self._tell_form(failed)
        admission.charge_tokens(used - _expected_tokens(line, request))
        seen = failed if isinstance(failed, CallFailed) else None
        admission.leave(began, seen, completed, quota, self._late)
        if isinstance(failed, NexaError):
            raise failed

    def _lose_patience(self, caller: Caller, failed: CallFailed) -> None:
        """Raise once none of a caller's endpoints has answered anything for long."""
        gates = [self._admission(line) for line in caller.lines]
        down = min(gate.down_seconds for gate in gates)
        silent = min(gate.silent_seconds for gate in gates)
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


def settle_try(
    found: Any,
    call_id: str,
    line: Line,
    held: Reservation,
    answer: Answer,
    journal: CallJournal | None,
) -> None:
    """Journal one reply, or the exception in its place, then settle its money and note both.

    The journal comes first: what is settled is on record.
    """
    if isinstance(found, Exception):
        cost, risk = charge_of(found, line, held.nano)
        answer.error = found
        answer.failures.append(_class_of(found))
        if journal is not None:
            money = {"cost_nano": cost, "at_risk_nano": risk}
            journal.fail(call_id, role=held.role, **money, **describe_failure(found))
    else:
        cost, risk = line.price(found.usage), 0
        answer.reply, answer.error = found, None
        answer.encoded = encode_json(found.as_json())
        if journal is not None:
            fields = {"reply": answer.encoded, "cost_nano": cost, "model": line.model.name}
            journal.reply(call_id, role=held.role, **fields)
    if risk:
        held.lose()
    else:
        held.settle(cost)
    answer.cost_nano += cost
    answer.at_risk_nano += risk


def charge_of(failed: Exception, line: Line, reserved: int) -> tuple[int, int]:
    """Settled and at-risk nano-dollars of a try that failed."""
    if isinstance(failed, NexaError):
        return 0, 0
    if not isinstance(failed, CallFailed) or failed.charge is Charge.UNKNOWN:
        return 0, reserved
    if failed.charge is Charge.KNOWN and failed.usage is not None:
        return line.price(failed.usage), 0
    return 0, 0


def _is_of_call(failed: CallFailed) -> bool:
    """Whether a failure may be the call's own doing, and not only its endpoint's."""
    unreached = failed.failure is Failure.CONNECTION and failed.charge is Charge.NONE
    return failed.failure is not Failure.RATE_LIMIT and not unreached


def _class_of(failed: Exception) -> str:
    return str(failed.failure) if isinstance(failed, CallFailed) else type(failed).__name__


def describe_failure(failed: Exception) -> Mapping[str, Any]:
    """A failed try as the journal keeps it, with the body where one came."""
    fields: dict[str, Any] = {"error": str(failed) or type(failed).__name__}
    if isinstance(failed, CallFailed):
        fields |= {"failure": str(failed.failure), "status": failed.status, "raw": failed.raw}
    return fields


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _expected_tokens(line: Line, request: Request) -> float:
    if line.role.tpm is None:
        return 0
    prompt = request.prompt
    text = prompt if isinstance(prompt, str) else "\n".join(m.content for m in prompt)
    return line.model.count_tokens(text) + most_tokens(request)


def most_tokens(request: Request) -> int:
    """The most tokens the completion may have; a choice between options is one token."""
    return int(request.sampling.get("max_tokens") or 1)
