"""What earlier iterations taught: which moves did not help, and which values were too far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from nexa_core import Evidence, GateCheck, Verdict
from nexa_reviewers.gaps import measure_gap, metric_name
from nexa_reviewers.rules import RuleBase, find_rule

__all__ = ["find_bound", "has_failed", "was_tried"]

_HELPED = 0.85
"""A move helped when the failure rate fell to at most this part of what it was."""
_DEVIATIONS = 1.6
_NAMES = {f.name for f in fields(GateCheck)}


class _Measured(NamedTuple):
    rate: float
    rows: int


@dataclass(frozen=True, slots=True)
class _State:
    """The parameters of an iteration and what was measured at them."""

    parameters: Mapping[str, Any]
    checks: tuple[GateCheck, ...]


def has_failed(metric: str, path: str, direction: str, evidence: Evidence) -> bool:
    """Whether the last turn of a parameter in this direction left the metric as bad as it was.

    That needs rows enough to tell: too many failures for a rate that has fallen to half.
    """
    states = _states(evidence)
    for before, after in reversed(list(itertools.pairwise(states))):
        if _direction(before.parameters.get(path), after.parameters.get(path)) == direction:
            old, new = _measured(metric, before), _measured(metric, after)
            return old is not None and new is not None and _stayed(old, new)
    return False


def _stayed(old: _Measured, new: _Measured) -> bool:
    half = old.rate * new.rows / 2
    told = new.rate * new.rows > half + _DEVIATIONS * math.sqrt(half)
    return told and new.rate > _HELPED * old.rate


def find_bound(
    path: str, knob: str, direction: str, evidence: Evidence, base: RuleBase
) -> float | None:
    """The nearest value ahead at which another metric wanted the knob turned back, or None."""
    here = evidence.parameters.get(path)
    back = "down" if direction == "up" else "up"
    seen = [
        state.parameters.get(path)
        for state in _states(evidence)[:-1]
        if any(_wants(check, knob, back, base) for check in state.checks)
    ]
    ahead = [x for x in seen if _direction(here, x) == direction and isinstance(x, int | float)]
    return (min(ahead) if direction == "up" else max(ahead)) if ahead else None


def was_tried(path: str, value: Any, evidence: Evidence) -> bool:
    """Whether an earlier iteration ran with this value."""
    return any(past.get("parameters", {}).get(path) == value for past in evidence.history)


def _states(evidence: Evidence) -> Sequence[_State]:
    past = [
        _State(
            entry.get("parameters", {}),
            tuple(
                GateCheck(**{key: value for key, value in check.items() if key in _NAMES})
                for check in entry.get("checks", ())
            ),
        )
        for entry in evidence.history
    ]
    return [*past, _State(evidence.parameters, evidence.checks)]


def _wants(check: GateCheck, knob: str, direction: str, base: RuleBase) -> bool:
    rule = find_rule(metric_name(check), check.rule, base)
    failed = check.hard and check.verdict == Verdict.FAIL
    return bool(
        failed and rule and any((m.knob, m.direction) == (knob, direction) for m in rule.moves)
    )


def _measured(metric: str, state: _State) -> _Measured | None:
    for check in state.checks:
        if check.metric == metric and check.n:
            return _Measured(measure_gap(check).rate, check.n)
    return None


def _direction(old: Any, new: Any) -> str | None:
    if old == new:
        return None
    if isinstance(old, int | float) and isinstance(new, int | float):
        return "up" if new > old else "down"
    return "other"
