"""What one step of one phase asks and costs, and what several come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa_core.engine.estimate.assumptions import Assumptions
from nexa_core.engine.estimate.prompts import StepCalls
from nexa_core.pipeline import Role
from nexa_core.prices import Rates, is_local, rates_of
from nexa_core.records import Usage

__all__ = ["Line", "Price", "add_money", "add_seconds", "price_line", "sum_lines"]

NANO = 10**9
BATCH_SECONDS = 86_400.0
"""What a provider's batch may take."""
PREFILL_SPEED = 20
"""How many prompt tokens a model on this machine reads in the time in which it writes one."""


@dataclass(frozen=True)
class Line:
    """One step in one phase, expected and at most. Money is in nano-dollars, None where nobody knows."""

    phase: str
    step: str
    role: str
    calls: float
    calls_most: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float
    alone_seconds: float
    """What one call takes by itself: no phase is shorter than its steps one after the other."""
    nano: float | None
    nano_most: float | None


@dataclass(frozen=True)
class Price:
    """How a role is paid: by `rates` per token, by `usd_per_hour`, or nobody knows (`known` is False).

    `others` are the rates of its fallbacks; they count in what it costs at most.
    """

    role: Role
    rates: Rates | None
    others: tuple[Price, ...] = ()

    @classmethod
    def of(cls, role: Role, fallbacks: Sequence[Role] = ()) -> Price:
        """What a role costs; with `batch: true` what its batches do."""
        rates = rates_of(role)
        others = tuple(cls.of(each) for each in fallbacks)
        return cls(role, rates.batched() if rates and role.batch is True else rates, others)

    @property
    def known(self) -> bool:
        """Whether the cost can be told."""
        return self.rates is not None or is_local(self.role) or self.role.usd_per_hour is not None

    def bound(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most one call costs, whichever of its models answers, in nano-dollars."""
        rates = [each.rates for each in (self, *self.others) if each.rates is not None]
        return max((each.bound(prompt_tokens, completion_tokens) for each in rates), default=0)

    @property
    def told(self) -> str:
        """Where the price comes from, in words."""
        if self.role.price is not None:
            return "the pipeline's own"
        if self.rates is not None:
            return f"price book of {self.rates.date}" + (
                ", batch" if self.role.batch is True else ""
            )
        if self.role.usd_per_hour is not None:
            return f"${self.role.usd_per_hour:g} an hour"
        return "this machine" if is_local(self.role) else "unknown"


def price_line(
    phase: str, step: StepCalls, visits: float, most: float, price: Price, assumed: Assumptions
) -> Line:
    calls, calls_most = visits * step.calls, most * step.calls
    seconds = calls * _seconds_each(step, price.role, assumed)
    return Line(
        phase,
        step.step,
        step.role,
        calls,
        calls_most,
        calls * step.prompt_mean,
        calls * step.answer,
        seconds,
        _seconds_alone(step, price.role, assumed) if calls else 0.0,
        _nano(price, calls, seconds, step.prompts, step.answer, bound=False),
        _nano(
            price,
            calls_most,
            seconds * (calls_most / calls if calls else 0.0),
            step.most_prompts,
            step.most_answer,
            bound=True,
        ),
    )


def _nano(
    price: Price, calls: float, seconds: float, prompts: Sequence[int], answer: int, bound: bool
) -> float | None:
    """The money of so many calls, each like one of the sample."""
    if not price.known or (bound and not all(other.known for other in price.others)):
        return None
    hours = seconds / 3600 * (price.role.usd_per_hour or 0.0) * NANO
    rates = price.rates
    if not prompts or (rates is None and not bound):
        return hours
    if bound:
        each = [price.bound(tokens, answer) for tokens in prompts]
    else:
        assert rates is not None
        each = [rates.cost(Usage(tokens, answer)) for tokens in prompts]
    return hours + calls * sum(each) / len(prompts)


def _seconds_each(step: StepCalls, role: Role, assumed: Assumptions) -> float:
    """The share of the clock that one call takes, with others beside it."""
    if is_local(role):
        work = step.answer + step.prompt_mean / PREFILL_SPEED
        return work / assumed.local_tokens_per_second
    each = _seconds_alone(step, role, assumed) / (role.concurrency or assumed.concurrency)
    rpm, tpm = role.rpm, role.tpm
    if rpm:
        each = max(each, 60 / rpm)
    if tpm:
        each = max(each, 60 * (step.prompt_mean + step.answer) / tpm)
    return each


def _seconds_alone(step: StepCalls, role: Role, assumed: Assumptions) -> float:
    if is_local(role):
        return 0.0
    return assumed.first_token_seconds + step.answer / assumed.tokens_per_second


def add_seconds(lines: Iterable[Line], roles: Mapping[str, Role]) -> float:
    """The clock time: phases follow each other; in a phase local work adds up, remote roles overlap."""
    total = 0.0
    lines = list(lines)
    for phase in dict.fromkeys(line.phase for line in lines):
        local, alone = 0.0, 0.0
        remote: dict[str, float] = {}
        for line in lines:
            if line.phase != phase:
                continue
            if is_local(roles[line.role]):
                local += line.seconds
                continue
            alone += line.alone_seconds
            if roles[line.role].batch is True:
                remote[line.role] = BATCH_SECONDS
            else:
                remote[line.role] = remote.get(line.role, 0.0) + line.seconds
        total += local + max(alone, *remote.values(), 0.0)
    return round(total, 1)


def sum_lines(lines: Iterable[Line]) -> dict[str, Any]:
    """Calls, tokens and dollars of some lines; dollars are None where one of them is unknown."""
    lines = list(lines)
    return {
        "calls": round(sum(line.calls for line in lines)),
        "calls_most": round(sum(line.calls_most for line in lines)),
        "prompt_tokens": round(sum(line.prompt_tokens for line in lines)),
        "completion_tokens": round(sum(line.completion_tokens for line in lines)),
        "usd": add_money(line.nano for line in lines),
        "usd_most": add_money(line.nano_most for line in lines),
        "usd_known": add_money(line.nano for line in lines if line.nano is not None),
    }


def add_money(amounts: Iterable[float | None]) -> float | None:
    total = 0.0
    for nano in amounts:
        if nano is None:
            return None
        total += nano
    return round(total) / NANO
