"""The gates that other tools have: a point threshold, an exact test once, that test again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gating.nulls import ITERATIONS, Counts, describe_rate, list_nulls, pilot_gate
from nexa_core import stats
from nexa_core.gates import Gate, Rule

POINT_ROWS, FIXED_ROWS = 43, 124
"""The rows of a published pilot; the rows that an exact test needs to pass "< 5 %" at 1 % in 80 %."""
EVERY, MOST = 10, 500
ALPHA = 0.05


class OtherGate(NamedTuple):
    """Which rows a gate looks at, and what it says there of one rule's failures: pass, fail, open."""

    looks: tuple[int, ...]
    passes: Callable[[int, int, float], bool]
    fails: Callable[[int, int, float], bool]


def _under(k: int, n: int, limit: float) -> bool:
    return k < limit * n


def _certain_under(k: int, n: int, limit: float) -> bool:
    return k <= most_passing(n, limit)


def _certain_over(k: int, n: int, limit: float) -> bool:
    return bool(stats.clopper_pearson(k, n, ALPHA)[0] >= limit)


@lru_cache(maxsize=4096)
def most_passing(n: int, limit: float) -> int:
    """The most failures of n rows at which the exact upper bound is under the limit; −1 for none."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        under = stats.clopper_pearson(middle, n, ALPHA)[1] < limit
        low, high = (middle, high) if under else (low, middle - 1)
    return low


def _never(_k: int, _n: int, _limit: float) -> bool:
    return False


OTHERS: Mapping[str, OtherGate] = {
    f"point threshold, n = {POINT_ROWS}": OtherGate((POINT_ROWS,), _under, _never),
    f"Clopper-Pearson, n = {FIXED_ROWS}": OtherGate((FIXED_ROWS,), _certain_under, _never),
    f"Clopper-Pearson, every {EVERY} to {MOST}": OtherGate(
        tuple(range(EVERY, MOST + 1, EVERY)), _certain_under, _certain_over
    ),
}


_LIMITS: dict[tuple[tuple[int, ...], tuple[str, ...]], tuple[Counts, Counts]] = {}


def find_limits(other: OtherGate, gate: Gate) -> tuple[Counts, Counts]:
    """Looks × hard rules: the most failures with which a rule passes, the fewest with which it fails."""
    key = other.looks, tuple(rule.key for rule in gate.hard)
    if key not in _LIMITS:
        found = [[_limits(other, n, rule) for rule in gate.hard] for n in other.looks]
        both = np.array(found)
        _LIMITS[key] = both[:, :, 0], both[:, :, 1]
    return _LIMITS[key]


def _limits(other: OtherGate, n: int, rule: Rule) -> tuple[int, int]:
    limit = rule.failure_limit
    if limit is None:
        return 0, 1
    passing = max((k for k in range(n + 1) if other.passes(k, n, limit)), default=-1)
    return passing, min((k for k in range(n + 1) if other.fails(k, n, limit)), default=n + 1)


def measure_others(campaigns: int, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """False PROCEED per campaign of each other gate: every rule at its limit, runaways also at 8 %."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in OTHERS}
    for i, (shown, rule, rate) in enumerate(list_nulls(pilot_gate())):
        rng = np.random.default_rng([seed, 99, i])
        passed, first = _play(campaigns, rate, rule.failure_limit or 0.0, rng)
        for name in OTHERS:
            counted = int(passed[name].sum())
            within_three = float(first[name].mean())
            found[name][shown] = describe_rate(counted, campaigns) | {"within_3": within_three}
    return found


def _play(
    campaigns: int, rate: float, limit: float, rng: np.random.Generator
) -> tuple[dict[str, Counts], dict[str, Counts]]:
    """Which campaigns proceed within five pilots of fresh rows, and which within three."""
    passed = {name: np.zeros(campaigns, bool) for name in OTHERS}
    early = {name: np.zeros(campaigns, bool) for name in OTHERS}
    rule = Rule("at its limit", "below", limit)
    limits = {
        name: np.array([_limits(gate, n, rule)[0] for n in gate.looks])
        for name, gate in OTHERS.items()
    }
    for begin in range(0, campaigns, 1000):
        block = slice(begin, min(begin + 1000, campaigns))
        for pilot in range(ITERATIONS):
            failures = np.cumsum(rng.random((block.stop - begin, MOST)) < rate, axis=1)
            for name, gate in OTHERS.items():
                looks = np.array(gate.looks) - 1
                passed[name][block] |= np.any(failures[:, looks] <= limits[name], axis=1)
                if pilot == 2:
                    early[name][block] = passed[name][block]
    return passed, early
