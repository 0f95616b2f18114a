"""What a run would have to ask, before it asks: its first rows taken through the steps with known replies alone."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.context import Context
from nexa_core.engine.pilot import rows_planned
from nexa_core.engine.plan import Plan
from nexa_core.engine.requests import Subject
from nexa_core.engine.shard import ShardOrder, run_steps
from nexa_core.engine.sources import SourceRow
from nexa_core.engine.tries import Caller
from nexa_core.events import CallsPlanned
from nexa_core.pipeline import CriticStep, GenerateStep, roles_of
from nexa_core.records import Request

MOST_ROWS = 20_000
"""Rows that are really taken through; more than these are reckoned from them."""


@dataclass
class KnownCalls(Calls):
    """Calls that are answered from known replies; the others are counted, and their rows end there."""

    to_ask: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def _ask(
        self,
        caller: Caller,
        requests: Sequence[Request],
        subjects: Sequence[Subject],
        *rest: Any,
    ) -> list[Outcome]:
        missing = [r for r in requests if r.id not in self.known and r.id not in self.reused]
        self.to_ask[caller.step, caller.role] += len(missing)
        self.found[caller.step, caller.role] += len(requests) - len(missing)
        unknown = {request.id for request in missing}
        kind = rest[-1]
        return [
            Outcome(request.id, None, "not asked")
            if request.id in unknown
            else self._settle(caller, request, subject, None, kind)
            for request, subject in zip(requests, subjects, strict=True)
        ]


async def foresee(context: Context) -> CallsPlanned:
    """How many calls of each role are answered already, and how many are still to be asked.

    A row without a known answer is counted as to be asked at every later step; one without a known
    judgement as if it had passed.
    """
    total, rows = _plan_rows(context)
    plan = context.plan
    calls = KnownCalls(context.dispatch, reused=context.reused, only_known=True)
    order = ShardOrder(context.run.id, "plan", 0, rows)
    await run_steps(plan, order, calls)
    asked, found, missing = Counter[str](), Counter[str](), 0
    scale = total / len(rows) if rows else 0.0
    for step in plan.pipeline.steps:
        each = 2 if isinstance(step, CriticStep) else 1
        for role in roles_of(step):
            here = calls.to_ask[step.id, role]
            asked[role] += round(scale * (here + each * missing))
            found[role] += round(scale * calls.found[step.id, role])
            if isinstance(step, GenerateStep):
                missing += here
    exact = len(rows) == total and context.source is not None and _ends_with_known(plan, calls)
    return CallsPlanned(_by_role(asked, found), total, exact, _price(context, asked))


def _ends_with_known(plan: Plan, calls: KnownCalls) -> bool:
    """Whether nothing that is still to be asked decides what later steps are asked."""
    asking = [step for step in plan.pipeline.steps if roles_of(step)]
    open_ = [any(calls.to_ask[step.id, role] for role in roles_of(step)) for step in asking]
    early = any(open_[:-1]) and (
        plan.accept_rule.eager or any(isinstance(step, GenerateStep) for step in asking[1:])
    )
    return not early and not (any(open_) and plan.retry is not None)


def _by_role(asked: Mapping[str, int], found: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {role: {"reused": found[role], "to_ask": asked[role]} for role in asked}


def _price(context: Context, asked: Mapping[str, int]) -> dict[str, float]:
    """What the calls to be asked may cost, by the mean of the estimate that the run began with."""
    path = context.run.estimate_path
    if not path.exists():
        return {}
    roles = json.loads(path.read_bytes())["roles"]
    means = {r["role"]: r["usd"] / r["calls"] for r in roles if r["usd"] and r["calls"]}
    return {role: count * means[role] for role, count in asked.items() if count and role in means}


def _plan_rows(context: Context) -> tuple[int, list[SourceRow]]:
    """How many source rows the run plans to take in, as far as that is known, and the first of them."""
    if context.source is None:
        return 0, []
    scale, pilot = context.plan.pipeline.scale, []
    if context.plan.gate is not None or scale is None:
        planned = rows_planned(context)
        most = MOST_ROWS if planned < 0 else planned
        pilot = context.pilot_rows("iterations/01", 0, 0, most)
    piloted = {row.source_id for row in pilot}
    wanted = 0
    if scale is not None:
        wanted = scale.accepted or (scale.rows if isinstance(scale.rows, int) else 0)
    fresh = (row for row in context.read_rows() if row.source_id not in piloted)
    if scale is not None and scale.rows == "all":
        every = list(itertools.islice(fresh, MOST_ROWS))
        more = sum(1 for _ in fresh)
        return len(pilot) + len(every) + more, [*pilot, *every]
    rest = list(itertools.islice(fresh, max(0, min(wanted - len(pilot), MOST_ROWS))))
    return max(wanted, len(pilot)), [*pilot, *rest]
