"""How far a check is from its limit, and how far that wants a knob turned."""

from __future__ import annotations

from dataclasses import dataclass

from nexa_core import GateCheck

__all__ = ["Gap", "measure_gap", "metric_name"]

_EQUALS_LIMIT = 0.01
"""Stands in for the limit of `equals`, of which every rate is infinitely many times."""
_TARGET, _ROOT = 0.2, 0.45
_WEAKEST, _STRONGEST = 0.3, 0.7


@dataclass(frozen=True, slots=True)
class Gap:
    """A rate of failing rows and the limit it must undercut."""

    rate: float
    limit: float

    @property
    def times(self) -> float:
        """The rate as a multiple of its limit."""
        return self.rate / self.limit

    @property
    def strength(self) -> float:
        """The strength of a turn, 0.3 to 0.7: what is missing to a target well under the limit.

        At a fifth of a small limit a pilot is certified in few rows; the root is taken because
        rates fall faster than temperatures.
        """
        part = _TARGET if self.limit <= 0.2 else 3 * _TARGET
        missing = min(part * self.limit / max(self.rate, 1e-9), 1.0)
        return min(max(1.0 - missing**_ROOT, _WEAKEST), _STRONGEST)


def metric_name(check: GateCheck) -> str:
    """The metric without the options that a gate gave it, and without its slice."""
    return check.metric.partition("(")[0].partition("[")[0]


def measure_gap(check: GateCheck) -> Gap:
    """The gap of a check with rows; the rate is drawn half a row towards one half."""
    good = check.aggregate == "median" or check.rule == "at_least"
    if check.rule == "equals":
        good = check.threshold == 1
    failures = check.n - check.k if good else check.k
    limit = check.threshold if check.rule == "below" else 1.0 - check.threshold
    if check.aggregate == "median":
        limit = 0.5
    elif check.rule == "equals":
        limit = _EQUALS_LIMIT
    return Gap((failures + 0.5) / (check.n + 1), limit)
