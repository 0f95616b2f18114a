"""Calls of one unit of work: journal before and after, replay, and the record of each.

The intent goes into the journal before the request goes out, the reply at once after it arrives;
a call whose reply the journal holds is never asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from nexa_core.engine.deferred import Deferred
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.requests import Subject, describe_request
from nexa_core.engine.tries import Answer, Caller, CallJournal
from nexa_core.errors import NexaError
from nexa_core.protocols import Model
from nexa_core.records import Choice, Completion, Request, decode_json, encode_json, mend_text
from nexa_core.store.money import Spent

CALL_SCHEMA = pa.schema(
    [
        ("call_id", pa.string()),
        ("row_id", pa.string()),
        ("step", pa.string()),
        ("role", pa.string()),
        ("model", pa.string()),
        ("served_by", pa.string()),
        ("request", pa.string()),
        ("reply", pa.string()),
        ("error", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_nano", pa.int64()),
        ("at_risk_nano", pa.int64()),
        ("tries", pa.int32()),
        ("failures", pa.list_(pa.string())),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("seconds", pa.float64()),
        ("origin", pa.string()),
    ]
)


class CallRecord(NamedTuple):
    """One call as `CALL_SCHEMA` keeps it."""

    call_id: str
    row_id: str
    step: str
    role: str
    model: str
    served_by: str | None
    request: str
    reply: bytes | None
    """As JSON in UTF-8."""
    error: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_nano: int
    at_risk_nano: int
    tries: int | None
    failures: Sequence[str]
    started_at: datetime | None
    seconds: float | None
    origin: str


class Outcome(NamedTuple):
    """A reply, or the error in its place, with the id of the call."""

    call_id: str
    reply: Any
    error: str | None = None
    model: str = ""
    """The model that answered."""


@dataclass
class Calls:
    """Every call of one shard.

    `known` maps call ids to the reply frames an earlier process journaled, `begun` to its intents
    without an end, `reused` to replies of other runs. `spent` is the money that earlier processes paid for this shard.
    """

    dispatch: Dispatch = field(default_factory=Dispatch)
    journal: CallJournal | None = None
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    begun: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reused: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    records: list[CallRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"asked": 0, "replayed": 0, "reused": 0})
    only_known: bool = False
    """Nothing is asked: a judgement that is not known leaves its row as it is."""
    _under_way: set[asyncio.Task[Answer]] = field(default_factory=set)
    _sent: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)
    """Calls that were sent and not answered, by id: equal rows ask one question, once."""
    _answered: dict[str, CallRecord] = field(default_factory=dict)
    """What was answered, as it is recorded: nothing larger is kept of it."""

    async def complete(
        self, caller: Caller, requests: Sequence[Request], subjects: Sequence[Subject]
    ) -> list[Outcome]:
        """Completions for a batch of requests, in order; a failed one holds its error."""

        async def ask_one(model: Model, request: Request) -> Completion:
            return await model.complete(request)

        async def ask_many(batch: Sequence[Request]) -> Sequence[Completion | Exception]:
            return await caller.model.complete_many(batch)

        return await self._ask(caller, requests, subjects, ask_one, ask_many, Completion)

    async def choose(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        options: Sequence[str],
    ) -> list[Outcome]:
        """Log-probabilities of `options` for a batch of requests, in order."""

        async def ask_one(model: Model, request: Request) -> Choice:
            return await model.choose(request, options)

        async def ask_many(batch: Sequence[Request]) -> Sequence[Choice | Exception]:
            return await caller.model.choose_many(batch, options)

        return await self._ask(caller, requests, subjects, ask_one, ask_many, Choice)

    async def drain(self) -> None:
        """Wait for every request that is under way: it may be paid for, so its reply is journaled."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _ask(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        ask_one: Callable[[Model, Request], Awaitable[Any]],
        ask_many: Callable[[Sequence[Request]], Awaitable[Sequence[Any]]],
        kind: type[Completion | Choice],
    ) -> list[Outcome]:
        missing = [request for request in requests if not self._is_known(request.id)]
        answers: dict[str, Answer] = {}
        if missing and caller.model.batch_size:
            # A batch is computed whole: its numbers may depend on its composition.
            answers = await self._compute(caller, requests, missing, ask_many)
        elif missing and caller.is_batched and kind is Completion:
            answers = await self._defer(caller, missing)
        elif missing:
            answers = await self._send(caller, missing, ask_one)
        return [
            self._settle(caller, request, subject, answers.get(request.id), kind)
            for request, subject in zip(requests, subjects, strict=True)
        ]

    def _is_known(self, call_id: str) -> bool:
        return call_id in self.known or call_id in self.reused or call_id in self._answered

    async def _send(
        self,
        caller: Caller,
        missing: Sequence[Request],
        ask: Callable[[Model, Request], Awaitable[Any]],
    ) -> dict[str, Answer]:
        self.dispatch.check()
        for request in missing:
            if request.id not in self._sent:
                sending = self.dispatch.send(caller, request, self.journal, ask)
                self._sent[request.id] = asyncio.ensure_future(sending)
        tasks = [self._sent[request.id] for request in missing]
        self._under_way.update(tasks)
        try:
            # One that ends the run lets its siblings come to their end first.
            found = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._under_way.difference_update(task for task in tasks if task.done())
        for answer in found:
            if isinstance(answer, BaseException):
                raise answer
        return {r.id: a for r, a in zip(missing, found, strict=True) if isinstance(a, Answer)}

    async def _defer(self, caller: Caller, missing: Sequence[Request]) -> dict[str, Answer]:
        deferred = Deferred(self.dispatch, caller, self.journal, self.known, self.begun)
        missing = list({request.id: request for request in missing}.values())
        answers = await deferred.ask(missing)
        for request in missing:
            # The money that the dead process left at risk is settled now, one way or the other.
            frame = self.begun.get(request.id, {})
            if "nonce" in frame:
                self.spent.at_risk[caller.role] -= frame.get("reserved_nano") or 0
        return answers

    async def _compute(
        self,
        caller: Caller,
        requests: Sequence[Request],
        missing: Sequence[Request],
        ask_many: Callable[[Sequence[Request]], Awaitable[Sequence[Any]]],
    ) -> dict[str, Answer]:
        self.dispatch.check()
        for request in missing:
            if self.journal is not None:
                self.journal.intend(request.id, step=caller.step, role=caller.role)
        started_at, started = datetime.now(UTC), time.perf_counter()
        machine = self.dispatch.machine_time(caller)
        replies = await machine.measure(_whole(ask_many, requests))
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        wanted = {request.id for request in missing}
        answers = {
            request.id: Answer(caller.model.name, started_at, seconds=seconds)
            for request in missing
        }
        shares = machine.split(len(answers))
        for request, reply in zip(requests, replies, strict=True):
            if request.id in wanted:
                wanted.discard(request.id)
                answer = answers[request.id]
                answer.cost_nano = next(shares)
                self._journal_computed(caller, request, reply, answer)
        if machine.short is not None:
            raise machine.short
        return answers

    def _journal_computed(
        self, caller: Caller, request: Request, reply: Any, answer: Answer
    ) -> None:
        if isinstance(reply, Exception):
            answer.error = reply
        else:
            answer.reply, answer.encoded = reply, encode_json(reply.as_json())
        if self.journal is None:
            return
        if answer.error is not None:
            fields: dict[str, Any] = {"error": describe(answer.error)}
            self.journal.fail(request.id, role=caller.role, cost_nano=answer.cost_nano, **fields)
        else:
            fields = {"reply": answer.encoded}
            self.journal.reply(request.id, role=caller.role, cost_nano=answer.cost_nano, **fields)

    def _settle(
        self,
        caller: Caller,
        request: Request,
        subject: Subject,
        answer: Answer | None,
        kind: type[Completion | Choice],
    ) -> Outcome:
        if answer is None and (found := self._answered.get(request.id)) is not None:
            origin = "replayed"
            answer = Answer(found.model, _UNKNOWN_TIME, encoded=found.reply or b"")
            answer.reply = kind.from_json(decode_json(answer.encoded))
        elif answer is None:
            origin = "replayed" if request.id in self.known else "reused"
            frame = (self.known if origin == "replayed" else self.reused)[request.id]
            answer = Answer(frame.get("model", caller.model.name), _UNKNOWN_TIME)
            answer.reply, answer.encoded = (
                kind.from_json(frame["reply"]),
                encode_json(frame["reply"]),
            )
            if origin == "replayed":
                answer.cost_nano = frame.get("cost_nano", 0)
        elif answer.is_settled:  # the row before it asked the same
            origin = "replayed"
            answer = replace(answer, cost_nano=0, at_risk_nano=0)
        else:
            origin = "asked"
            answer.is_settled = True
            self.spent.settled[caller.role] += answer.cost_nano
            self.spent.at_risk[caller.role] += answer.at_risk_nano
        self.counts[origin] += 1
        error = None if answer.reply is not None else describe(answer.error)
        self._record(caller, request, subject, answer, error, origin)
        if error is None and self._sent.pop(request.id, None) is not None:
            self._answered[request.id] = self.records[-1]
        return Outcome(request.id, answer.reply, error, answer.model)

    def _record(
        self,
        caller: Caller,
        request: Request,
        subject: Subject,
        answer: Answer,
        error: str | None,
        origin: str,
    ) -> None:
        reply = answer.reply
        usage = reply.usage if reply is not None else None
        asked = origin == "asked"
        self.records.append(
            CallRecord(
                request.id,
                subject.row_id,
                caller.step,
                caller.role,
                answer.model,
                reply.served_by if reply is not None else None,
                describe_request(request),
                answer.encoded or None,
                error and mend_text(error),
                getattr(reply, "finish_reason", None),
                usage.prompt_tokens if usage else None,
                usage.completion_tokens if usage else None,
                answer.cost_nano,
                answer.at_risk_nano,
                answer.tries if asked else None,
                answer.failures,
                answer.started_at if asked else None,
                answer.seconds if asked else None,
                origin,
            )
        )

    @property
    def served(self) -> dict[str, dict[str, int]]:
        """Replies so far by role and by who served them: as the reply says, else the model asked."""
        counts: dict[str, dict[str, int]] = {}
        for call in self.records:
            if call.reply is not None:
                server = call.served_by or call.model
                role = counts.setdefault(call.role, {})
                role[server] = role.get(server, 0) + 1
        return {role: dict(sorted(servers.items())) for role, servers in sorted(counts.items())}

    def table(self) -> pa.Table:
        """Every call made so far, as the table that is committed beside its shard."""
        columns = dict(zip(CallRecord._fields, zip(*self.records, strict=True), strict=False))
        replies = columns.get("reply", ())
        columns["reply"] = tuple(each and each.decode("utf-8", "replace") for each in replies)
        arrays = [pa.array(columns.get(each.name, ()), each.type) for each in CALL_SCHEMA]
        return pa.Table.from_arrays(arrays, schema=CALL_SCHEMA)


_UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)


async def _whole(
    ask_many: Callable[[Sequence[Request]], Awaitable[Sequence[Any]]], requests: Sequence[Request]
) -> Sequence[Any]:
    try:
        return await ask_many(requests)
    except NexaError:
        raise
    except Exception as cause:
        return [cause] * len(requests)


def describe(error: Exception | None) -> str:
    """An error as a row's reason says it."""
    return str(error) or type(error).__name__
