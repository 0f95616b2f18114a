"""Intervals for one rate or one mean from a fixed number of rows."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

__all__ = ["MeanInterval", "clopper_pearson", "student", "wilson"]


@lru_cache(maxsize=4096)
def clopper_pearson(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Exact lower and upper bound of a rate, each at level alpha (Clopper & Pearson 1934).

    Valid for one look at a number of rows fixed beforehand; (0, 1) without rows.
    """
    from scipy.special import betaincinv

    lower = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, alpha))
    upper = 1.0 if k >= n else float(betaincinv(k + 1, n - k, 1.0 - alpha))
    return lower, upper


def wilson(k: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a rate, two-sided (Wilson 1927); (0, 1) without rows."""
    from scipy.special import ndtri

    if n == 0:
        return 0.0, 1.0
    z2 = float(ndtri((1.0 + confidence) / 2.0)) ** 2
    rate = k / n
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


class MeanInterval(NamedTuple):
    """Bounds of a mean, and the two-sided p of the mean being 0."""

    low: float
    high: float
    p: float


def student(n: int, mean: float, deviation: float, confidence: float = 0.95) -> MeanInterval:
    """The t interval of a mean from its sample's standard deviation, two-sided (Student 1908).

    Of paired differences it is the interval of the mean difference. Without spread, which two equal
    columns have, the interval is the mean itself; fewer than two rows bound nothing.
    """
    from scipy.special import stdtr, stdtrit

    if n < 2:
        return MeanInterval(-math.inf, math.inf, 1.0)
    if deviation == 0:
        return MeanInterval(mean, mean, 1.0 if mean == 0 else 0.0)
    error = deviation / math.sqrt(n)
    half = float(stdtrit(n - 1, (1.0 + confidence) / 2.0)) * error
    return MeanInterval(mean - half, mean + half, 2.0 * float(stdtr(n - 1, -abs(mean) / error)))
