"""One try of one call: the model it goes to, the reply or failure that came, its money and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from nexa_core.engine.budget import Reservation
from nexa_core.engine.requests import RequestForm
from nexa_core.errors import CallFailed, Charge, Failure, NexaError
from nexa_core.pipeline import Role
from nexa_core.prices import Rates
from nexa_core.protocols import BatchModel, Model, RemoteModel
from nexa_core.records import Request, Usage, encode_json


class CallJournal(Protocol):
    """What calls need of a journal."""

    def intend(self, call_id: str, **fields: Any) -> None: ...

    def reply(self, call_id: str, **fields: Any) -> None: ...

    def fail(self, call_id: str, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Line:
    """A model as a role uses it. `rates` is None where tokens cost nothing or nobody knows what.

    `endpoint` is part of what a call is: see `endpoint_of`.
    """

    model: Model
    role: Role
    rates: Rates | None = None
    endpoint: str = ""

    def form(self, seed: int, **settings: Any) -> RequestForm:
        """The form of this model's requests, with what the role adds to them."""
        extra = self.role.extra_body
        return RequestForm(self.model, seed, **settings, extra_body=extra, endpoint=self.endpoint)

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

    def form(self, seed: int, **settings: Any) -> RequestForm:
        """The form of what is asked: that of the preferred model, whichever answers."""
        return self.lines[0].form(seed, **settings)

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
    is_settled: bool = False
    """Its cost is counted: what an equal row makes of it costs nothing more."""


def endpoint_of(role: Role) -> str:
    """Host and path of the address that a role names; empty where it is the provider's own.

    The key and the scheme are no part of it, nor is what may be written in two ways.
    """
    parts = urlsplit(role.base_url or "")
    return f"{parts.netloc.lower()}{parts.path.rstrip('/')}"


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
        answer.failures.append(class_of(found))
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


def is_of_call(failed: CallFailed) -> bool:
    """Whether a failure may be the call's own doing, and not only its endpoint's."""
    unreached = failed.failure is Failure.CONNECTION and failed.charge is Charge.NONE
    return failed.failure is not Failure.RATE_LIMIT and not unreached


def class_of(failed: Exception) -> str:
    """What a failure is counted as."""
    return str(failed.failure) if isinstance(failed, CallFailed) else type(failed).__name__


def describe_failure(failed: Exception) -> Mapping[str, Any]:
    """A failed try as the journal keeps it, with the body where one came."""
    fields: dict[str, Any] = {"error": str(failed) or type(failed).__name__}
    if isinstance(failed, CallFailed):
        fields |= {"failure": str(failed.failure), "status": failed.status, "raw": failed.raw}
    return fields


def tokens_used(usage: Usage) -> int:
    """Prompt and completion."""
    return usage.prompt_tokens + usage.completion_tokens


def expected_tokens(line: Line, request: Request) -> float:
    """What a request counts against a cap on tokens per minute; 0 where there is none."""
    if line.role.tpm is None:
        return 0
    prompt = request.prompt
    text = prompt if isinstance(prompt, str) else "\n".join(m.content for m in prompt)
    return line.model.count_tokens(text) + most_tokens(request)


def most_tokens(request: Request) -> int:
    """The most tokens the completion may have; a choice between options is one token."""
    return int(request.sampling.get("max_tokens") or 1)
