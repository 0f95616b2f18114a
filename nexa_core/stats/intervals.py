"""Intervals for one rate from a fixed number of rows."""

from __future__ import annotations

import math

__all__ = ["clopper_pearson", "wilson"]


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
