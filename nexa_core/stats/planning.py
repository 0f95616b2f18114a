"""How many rows a decision about a rate takes, and how likely it is to come out as a pass.

All figures are exact for a gate that looks after every row; a gate that looks less often decides
at its next look. Rates are rates of failure: PASS means that "the rate is p0 or more" is rejected.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nexa_core.stats.sequential import fail_limits, log_e_below, pass_limits

__all__ = [
    "Prediction",
    "chance_to_pass",
    "pass_by_row",
    "predict_pass",
    "rows_to_pass",
]

_MANY_ROWS = 10**9
_TABLE = 256

_Odds = tuple[NDArray[np.float64], NDArray[np.float64]]


@lru_cache(maxsize=4096)
def rows_to_pass(p0: float, alpha: float, failures: int = 0) -> int:
    """The fewest rows, `failures` of them failures, that certify a rate below p0 at level alpha."""
    target = -math.log(alpha)
    low, high = failures, max(2 * failures, 1)
    while float(log_e_below(failures, high, p0)) < target:
        low, high = high, high * 2
        if high > _MANY_ROWS:
            raise ValueError(f"no number of rows certifies a rate below {p0:g}")
    while high - low > 1:
        middle = (low + high) // 2
        passes = float(log_e_below(failures, middle, p0)) >= target
        low, high = (low, middle) if passes else (middle, high)
    return high


def chance_to_pass(p0: float, alpha: float, true_rate: float, cap: int) -> float:
    """The chance that PASS comes before FAIL within `cap` rows, each failing with `true_rate`.

    Exact: the distribution of the count is carried row by row between the absorbing limits
    (Armitage, McPherson & Rowe 1969, "Repeated significance tests on accumulating data").
    """
    return float(pass_by_row(p0, alpha, true_rate, cap)[-1])


@lru_cache(maxsize=64)
def pass_by_row(p0: float, alpha: float, true_rate: float, cap: int) -> NDArray[np.float64]:
    """The chance that PASS has come by row 0, 1 … `cap`, and before FAIL; see `chance_to_pass`."""
    certain = np.full(cap + 1, true_rate), np.ones(cap + 1)
    passed = np.cumsum(_pass_by_row(0, 0, p0, alpha, cap, certain))
    passed.flags.writeable = False  # callers share it
    return passed


class Prediction(NamedTuple):
    """The chance that a pass comes within the cap, and the further rows by which half of that
    chance has come: the size of the next look. No rows where no pass can come."""

    chance: float
    rows_likely: int | None


@lru_cache(maxsize=1024)
def predict_pass(k: int, n: int, p0: float, alpha: float, cap: int) -> Prediction:
    """The chance, given k failures in n rows, that PASS comes before FAIL within `cap` rows in all.

    Exact beta-binomial prediction from the Jeffreys prior, as a Polya urn: the next row fails with
    (k + ½)/(n + 1) (Spiegelhalter, Freedman & Blackburn 1986, predictive power of a trial).
    `rows_likely` is the fewest rows that could pass where that is likely, and more where further
    failures are to be expected.
    """
    cap = max(cap, n)
    rows = np.arange(cap + 1, dtype=np.float64)
    urn = np.add(rows, 0.5), np.add(rows, 1.0)
    passed = np.cumsum(_pass_by_row(k, n, p0, alpha, cap, urn))
    chance = float(passed[-1])
    if chance <= 0.0:
        return Prediction(0.0, None)
    return Prediction(min(chance, 1.0), int(np.searchsorted(passed, 0.5 * chance)))


def _pass_by_row(
    k: int, n: int, p0: float, alpha: float, cap: int, odds: _Odds
) -> NDArray[np.float64]:
    """Chances that the first limit met is PASS, and is met after 0, 1, 2 … cap − n rows more.

    The row after k failures in n rows fails with `odds[0][k] / odds[1][n]`.
    """
    by_count, by_row = odds
    table = -(-cap // _TABLE) * _TABLE  # few sizes, so that the limits are found again
    lows = pass_limits(p0, alpha, table)[n : cap + 1].tolist()
    highs = fail_limits(p0, alpha, table)[n : cap + 1].tolist()
    passed = np.zeros(cap - n + 1)
    alive, first = np.ones(1), k  # alive[i] is the chance of count first + i, undecided so far
    for step, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if step:
            failing = alive * (by_count[first : first + len(alive)] / by_row[n + step - 1])
            stepped = np.zeros(len(alive) + 1)
            stepped[:-1] = alive - failing
            stepped[1:] += failing
            alive = stepped
        below = max(low + 1 - first, 0)
        if below:
            passed[step] = alive[:below].sum()
        if below or high < first + len(alive):
            alive, first = alive[below : max(high - first, 0)], first + below
        if not len(alive):
            break
    return passed
