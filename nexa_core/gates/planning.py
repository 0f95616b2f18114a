"""What a gate will take before anything is paid: rows, chances, and pilots that can never pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nexa_core import stats
from nexa_core.errors import PreflightError
from nexa_core.figures import show_percent
from nexa_core.gates.rules import Gate, Rule

__all__ = ["Assumption", "RulePlan", "never_passes", "plan", "rows_auto"]

_PARTS_OF_LIMIT = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, slots=True)
class Assumption:
    """If rows failed a rule at `failure_rate`: the chance to pass within the cap, and the median
    number of rows until a pass (None where half of all pilots never pass)."""

    failure_rate: float
    chance: float
    rows_median: int | None


@dataclass(frozen=True, slots=True)
class RulePlan:
    """What one rule takes: the fewest rows that can pass it, and its chances at assumed rates."""

    metric: str
    op: str
    threshold: float
    rows_least: int
    assumptions: tuple[Assumption, ...]
    aggregate: str = "rate"


def rows_auto(gate: Gate, alpha: float) -> int:
    """The fewest rows that could pass every hard rule: a pilot without one failure."""
    return max((_rows_least(rule, alpha) for rule in gate.hard), default=1)


def never_passes(gate: Gate, alpha: float, rows: int | None = None) -> PreflightError | None:
    """Why a pilot of `rows` (None: auto), extended to the gate's cap, can never pass, if so.

    Not for a census, which decides on values.
    """
    possible = gate.max_rows if rows is None else max(rows, gate.max_rows)
    hopeless = [rule for rule in gate.hard if _rows_least(rule, alpha) > possible]
    if not hopeless:
        return None
    worst = max(hopeless, key=lambda rule: _rows_least(rule, alpha))
    needed = _rows_least(worst, alpha)
    return PreflightError(
        f"This pilot can never pass: '{worst.metric} {worst.op} {worst.threshold:g}' at level "
        f"{show_percent(alpha)} per iteration needs {needed:,} rows without one failure, and an "
        f"iteration can have {possible:,}.",
        f"Set pilot.rows={needed} or gate.extend.max_rows={needed}, fewer iterations, or a lower "
        "confidence.",
        worst.place or gate.place,
    )


def plan(
    gate: Gate, alpha: float, parts: Sequence[float] = _PARTS_OF_LIMIT
) -> tuple[RulePlan, ...]:
    """What each hard rule that is tested takes, at failure rates that are `parts` of its limit."""
    return tuple(
        RulePlan(
            rule.key,
            rule.op,
            rule.threshold,
            _rows_least(rule, alpha),
            tuple(_assume(rule.failure_limit * part, rule, alpha, gate.max_rows) for part in parts),
            rule.aggregate,
        )
        for rule in gate.hard
        if rule.failure_limit is not None
    )


def _assume(failure_rate: float, rule: Rule, alpha: float, cap: int) -> Assumption:
    assert rule.failure_limit is not None
    passed = stats.pass_by_row(rule.failure_limit, alpha, failure_rate, cap)
    median = int(np.searchsorted(passed, 0.5)) if passed[-1] >= 0.5 else None
    return Assumption(failure_rate, float(passed[-1]), median)


def _rows_least(rule: Rule, alpha: float) -> int:
    limit = rule.failure_limit
    return 1 if limit is None else stats.rows_to_pass(limit, alpha)
