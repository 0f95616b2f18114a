"""How many rows a run takes: through its pilot, its scale, and each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nexa_core import stats
from nexa_core.engine.estimate.assumptions import Assumptions
from nexa_core.engine.plan import Plan
from nexa_core.gates import Gate, Rule, rows_auto
from nexa_core.pipeline import CheckStep, GenerateStep

__all__ = ["Flow", "PilotRows", "ScaleRows", "plan_pilot", "plan_scale", "trace_rows"]

_UNLIMITED = 10**12


@dataclass(frozen=True)
class Flow:
    """One source row on its way: how often it visits each step, and how many accepted rows it gives.

    `visits` maps (step id, whether as a retry) to the expected number of visits, `most_visits` to
    the number where nothing is rejected on the way and everything at its end.
    """

    visits: dict[tuple[str, bool], float]
    most_visits: dict[tuple[str, bool], float]
    accepted: float
    acceptance: float
    """The share of rows accepted in the end, retries and all."""


@dataclass(frozen=True)
class PilotRows:
    """Source rows of the pilot: of one iteration that passes, and of all iterations at their cap."""

    first: int
    expected: int
    most: int
    iterations: int
    chance: float | None
    """The chance that one iteration passes at the assumed rates; None without a gate."""
    slowest: str | None = None
    """The rule that takes the most rows."""


@dataclass(frozen=True)
class ScaleRows:
    """Source rows of scale beside the passing pilot's; `accepted` counts both. `short` says why not all."""

    expected: int
    most: int
    accepted: float
    short: str | None = None


def trace_rows(plan: Plan, assumed: Assumptions) -> Flow:
    """The way of a source row, with rejections spread evenly over the steps that can reject."""
    steps = plan.pipeline.steps
    rejecting = [step for step in steps if _rejects(plan, step)]
    first = assumed.acceptance if rejecting or plan.accept_rule.terms else 1.0
    passing = first ** (1 / len(rejecting)) if rejecting else 1.0
    alive, copies = 1.0, 1
    visits: dict[tuple[str, bool], float] = {}
    most: dict[tuple[str, bool], float] = {}
    reached: dict[str, float] = {}
    for step in steps:
        if isinstance(step, GenerateStep):
            copies *= step.samples
        reached[step.id] = alive
        if hasattr(step, "model"):
            visits[step.id, False], most[step.id, False] = alive * copies, copies
        alive *= passing if step in rejecting else 1.0
    retries = plan.retry
    if retries is None:
        return Flow(visits, most, first * copies, first)
    again = sum((1 - first) ** attempt for attempt in range(1, retries.attempts + 1))
    _add_retries(plan, retries, again * copies, reached, visits)
    _add_retries(plan, retries, retries.attempts * copies, dict.fromkeys(reached, 1.0), most)
    final = 1 - (1 - first) ** (retries.attempts + 1)
    return Flow(visits, most, final * copies, final)


def _add_retries(
    plan: Plan,
    retries: Any,
    rows: float,
    reached: dict[str, float],
    visits: dict[tuple[str, bool], float],
) -> None:
    """A rejected row passes its retry step and every step after it once more."""
    begun = False
    for step in plan.pipeline.steps:
        begun = begun or step.id == retries.step
        if not begun or not hasattr(step, "model"):
            continue
        key = (step.id, step.id == retries.step)
        visits[key] = visits.get(key, 0.0) + rows * reached[step.id] / reached[retries.step]


def _rejects(plan: Plan, step: Any) -> bool:
    rule = plan.accept_rule
    own = {use.id for use in step.checks} if isinstance(step, CheckStep) else {step.id}
    if rule.eager and any(own & set(term.scores) for term in rule.terms):
        return True
    return isinstance(step, CheckStep) and any(use.on_fail == "reject" for use in step.checks)


def plan_pilot(plan: Plan, flow: Flow, assumed: Assumptions, total: int | None) -> PilotRows | None:
    """The rows of the pilot; None where the pipeline only collects."""
    gate, pilot = plan.gate, plan.pipeline.pilot
    if gate is None and plan.pipeline.scale is not None:
        return None
    available = _UNLIMITED if total is None else total
    if pilot.rows == "all" or gate is None:
        rows = available if pilot.rows == "all" else _count(pilot.rows, available)
        return PilotRows(rows, rows, rows, pilot.max_iterations if gate else 1, None)
    alpha = gate.alpha(pilot.max_iterations)
    first = pilot.rows if isinstance(pilot.rows, int) else rows_auto(gate, alpha)
    cap = max(gate.max_rows, first)
    likely, chance, slowest = _rows_likely(gate, alpha, cap, flow, assumed)
    begun = min(pilot.smoke, first) if pilot.smoke is not None else first
    return PilotRows(
        min(begun, available),
        min(max(first, likely), available),
        min(cap * pilot.max_iterations, available),
        pilot.max_iterations,
        chance,
        slowest,
    )


def _count(rows: int | str, available: int) -> int:
    return min(rows, available) if isinstance(rows, int) else min(1, available)


def _rows_likely(
    gate: Gate, alpha: float, cap: int, flow: Flow, assumed: Assumptions
) -> tuple[int, float, str | None]:
    """The rows by which every hard rule has passed with chance one half, and the chance that all do.

    The chance is the product of the rules' own, as if they were independent.
    """
    most, chance, slowest = 1, 1.0, None
    for rule in gate.hard:
        limit = rule.failure_limit
        if limit is None:
            continue
        passed = stats.pass_by_row(limit, alpha, _true_rate(rule, limit, flow, assumed), cap)
        chance *= float(passed[-1])
        rows = int(np.searchsorted(passed, 0.5)) if passed[-1] >= 0.5 else cap
        if rows > most:
            most, slowest = rows, rule.key
    return most, chance, slowest


def _true_rate(rule: Rule, limit: float, flow: Flow, assumed: Assumptions) -> float:
    if rule.metric == "acceptance_rate" and rule.op == "at_least":
        return 1 - flow.acceptance
    if rule.metric == "rejected_rate" and rule.op == "below":
        return 1 - flow.acceptance
    return limit * assumed.failure_part


def plan_scale(
    plan: Plan, flow: Flow, pilot: PilotRows | None, total: int | None
) -> ScaleRows | None:
    """The rows of scale beside those of the pilot that passed; None where nothing is scaled."""
    settings = plan.pipeline.scale
    if settings is None:
        return None
    piloted = pilot.expected if pilot else 0
    available = _UNLIMITED if total is None else max(0, total - piloted)
    if settings.accepted is None:
        wanted = available if settings.rows == "all" else int(settings.rows or 0) - piloted
        rows = max(0, min(wanted, available))
        return ScaleRows(rows, rows, (piloted + rows) * flow.accepted)
    most = settings.max_rows or _most_rows(settings.accepted, flow, piloted)
    missing = settings.accepted - piloted * flow.accepted
    wanted = max(0, math.ceil(missing / flow.accepted))
    rows = min(wanted, available, max(0, most - piloted))
    limit = min(available, max(0, most - piloted))
    if rows == wanted:
        return ScaleRows(rows, limit, float(settings.accepted))
    accepted = (piloted + rows) * flow.accepted
    why = "the source has no more rows" if rows == available else f"max_rows is {most:,}"
    short = f"about {accepted:,.0f} of {settings.accepted:,} rows would be accepted: {why}"
    return ScaleRows(rows, limit, accepted, short)


def _most_rows(accepted: int, flow: Flow, piloted: int) -> int:
    """What scale takes at most where `max_rows` is not set: as the engine does after such a pilot."""
    lower = 0.1
    if piloted:
        good = min(piloted, round(piloted * min(1.0, flow.accepted)))
        lower = max(0.01, stats.bounds(good, piloted, 0.05)[0])
    return math.ceil(3 * accepted / lower)
