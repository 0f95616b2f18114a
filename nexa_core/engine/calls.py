"""Calls of one unit of work: identity, journal before and after, replay, and the record of each.

The intent goes into the journal before the request goes out, the reply at once after it arrives;
a call whose reply the journal holds is never asked again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from nexa_core.errors import NexaError
from nexa_core.protocols import Model
from nexa_core.records import Choice, Completion, Request, canonical_json, mend_text

Reply = TypeVar("Reply", Completion, Choice)

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
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("seconds", pa.float64()),
        ("origin", pa.string()),
    ]
)


class CallJournal(Protocol):
    """What the calls of a unit need of a journal."""

    def intend(self, call_id: str, **fields: Any) -> None: ...

    def reply(self, call_id: str, **fields: Any) -> None: ...

    def fail(self, call_id: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """Which row a call is about, as far as the call's identity knows it."""

    row_id: str
    source_id: str
    sample: int
    attempt: int
    ask: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the step and the role, and the model that answers."""

    step: str
    role: str
    model: Model


@dataclass(frozen=True, slots=True)
class Outcome:
    """A reply, or the error in its place, with the id of the call."""

    call_id: str
    reply: Any
    error: str | None = None


def derive_seed(run_seed: int, subject: Subject) -> int:
    """The seed of a request, in 0 … 2^53: a hash of the run's seed and what the call is about."""
    text = f"{run_seed}/{subject.source_id}/{subject.sample}/{subject.attempt}/{subject.ask}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def identify(model: Model, request: Request, subject: Subject, options: Sequence[str] = ()) -> str:
    """The identity of a call: everything its reply may depend on, and which row it is for."""
    prompt = request.prompt
    content = {
        "model": [model.name, model.revision],
        "prompt": prompt if isinstance(prompt, str) else [[m.role, m.content] for m in prompt],
        "sampling": dict(request.sampling),
        "stop": list(request.stop),
        "seed": request.seed,
        "schema": request.schema,
        "tools": request.tools,
        "options": list(options),
        "row": [subject.source_id, subject.sample, subject.attempt, subject.ask],
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:24]


@dataclass
class Calls:
    """Every call of one shard.

    `known` maps call ids to the reply frames an earlier process journaled. `admit` is asked before
    anything new goes out and raises where nothing new may.
    """

    journal: CallJournal | None = None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    admit: Callable[[], None] = lambda: None
    records: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"asked": 0, "replayed": 0, "reused": 0})
    cost_nano: dict[str, int] = field(default_factory=dict)

    async def complete(
        self, caller: Caller, requests: Sequence[Request], subjects: Sequence[Subject]
    ) -> list[Outcome]:
        """Completions for a batch of requests, in order; a failed one holds its error."""
        model = caller.model

        async def ask_one(request: Request) -> Completion:
            return await model.complete(request)

        async def ask_many(batch: Sequence[Request]) -> Sequence[Completion | Exception]:
            return await model.complete_many(batch)

        return await self._ask(caller, requests, subjects, ask_one, ask_many, Completion)

    async def choose(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        options: Sequence[str],
    ) -> list[Outcome]:
        """Log-probabilities of `options` for a batch of requests, in order."""
        model = caller.model

        async def ask_one(request: Request) -> Choice:
            return await model.choose(request, options)

        async def ask_many(batch: Sequence[Request]) -> Sequence[Choice | Exception]:
            return await model.choose_many(batch, options)

        return await self._ask(caller, requests, subjects, ask_one, ask_many, Choice)

    async def _ask(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        ask_one: Callable[[Request], Awaitable[Reply]],
        ask_many: Callable[[Sequence[Request]], Awaitable[Sequence[Reply | Exception]]],
        kind: type[Reply],
    ) -> list[Outcome]:
        missing = [r for r in requests if r.id not in self.known]
        answers: dict[str, tuple[Reply | Exception, float, datetime]] = {}
        if missing:
            self.admit()
            for request in missing:
                self._intend(caller, request)
            # A batch is computed whole: its numbers may depend on its composition.
            answers = await self._answers(caller, requests, missing, ask_one, ask_many)
        return [
            self._settle(caller, request, subject, answers.get(request.id), kind)
            for request, subject in zip(requests, subjects, strict=True)
        ]

    async def _answers(
        self,
        caller: Caller,
        requests: Sequence[Request],
        missing: Sequence[Request],
        ask_one: Callable[[Request], Awaitable[Reply]],
        ask_many: Callable[[Sequence[Request]], Awaitable[Sequence[Reply | Exception]]],
    ) -> dict[str, tuple[Reply | Exception, float, datetime]]:
        wanted = {request.id for request in missing}
        started_at, started = datetime.now(UTC), time.perf_counter()
        if caller.model.batch_size:
            try:
                replies = await ask_many(requests)
            except NexaError:
                raise
            except Exception as cause:
                replies = [cause] * len(requests)
            seconds = (time.perf_counter() - started) / max(1, len(requests))
            answers = {
                request.id: (reply, seconds, started_at)
                for request, reply in zip(requests, replies, strict=True)
                if request.id in wanted
            }
            for request in missing:
                self._journal_answer(request, answers[request.id][0])
            return answers
        return await self._answer_singly(missing, ask_one)

    async def _answer_singly(
        self, missing: Sequence[Request], ask_one: Callable[[Request], Awaitable[Reply]]
    ) -> dict[str, tuple[Reply | Exception, float, datetime]]:
        import asyncio

        async def answer(request: Request) -> tuple[Reply | Exception, float, datetime]:
            started_at, started = datetime.now(UTC), time.perf_counter()
            try:
                reply: Reply | Exception = await ask_one(request)
            except NexaError:
                raise
            except Exception as cause:
                reply = cause
            self._journal_answer(request, reply)
            return reply, time.perf_counter() - started, started_at

        replies = await asyncio.gather(*(answer(request) for request in missing))
        return {request.id: reply for request, reply in zip(missing, replies, strict=True)}

    def _intend(self, caller: Caller, request: Request) -> None:
        if self.journal is not None:
            self.journal.intend(request.id, step=caller.step, role=caller.role)

    def _journal_answer(self, request: Request, reply: Reply | Exception) -> None:
        if self.journal is None:
            return
        if isinstance(reply, Exception):
            self.journal.fail(request.id, error=_describe(reply))
        else:
            self.journal.reply(request.id, reply=reply.as_json())

    def _settle(
        self,
        caller: Caller,
        request: Request,
        subject: Subject,
        answer: tuple[Reply | Exception, float, datetime] | None,
        kind: type[Reply],
    ) -> Outcome:
        if answer is None:
            reply: Reply | Exception = kind.from_json(self.known[request.id]["reply"])
            origin, seconds, started_at = "replayed", None, None
        else:
            reply, seconds, started_at = answer
            origin = "asked"
        self.counts[origin] += 1
        error = _describe(reply) if isinstance(reply, Exception) else None
        self._record(caller, request, subject, reply, error, origin, seconds, started_at)
        return Outcome(request.id, None if error else reply, error)

    def _record(
        self,
        caller: Caller,
        request: Request,
        subject: Subject,
        reply: Any,
        error: str | None,
        origin: str,
        seconds: float | None,
        started_at: datetime | None,
    ) -> None:
        usage = None if error else reply.usage
        cost = (usage.cost_nano or 0) if usage else 0
        self.cost_nano[caller.role] = self.cost_nano.get(caller.role, 0) + cost
        self.records.append(
            {
                "call_id": request.id,
                "row_id": subject.row_id,
                "step": caller.step,
                "role": caller.role,
                "model": caller.model.name,
                "served_by": None if error else reply.served_by,
                "request": _request_json(request),
                "reply": None if error else mend_text(canonical_json(reply.as_json())),
                "error": error and mend_text(error),
                "finish_reason": getattr(reply, "finish_reason", None),
                "prompt_tokens": usage.prompt_tokens if usage else None,
                "completion_tokens": usage.completion_tokens if usage else None,
                "cost_nano": cost,
                "started_at": started_at,
                "seconds": seconds,
                "origin": origin,
            }
        )

    def table(self) -> pa.Table:
        """Every call made so far, as the table that is committed beside its shard."""
        return pa.Table.from_pylist(self.records, schema=CALL_SCHEMA)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


def _request_json(request: Request) -> str:
    prompt = request.prompt
    return canonical_json(
        {
            "prompt": prompt if isinstance(prompt, str) else [[m.role, m.content] for m in prompt],
            "sampling": dict(request.sampling),
            "stop": list(request.stop),
            "seed": request.seed,
        }
    )
