"""Evidence about a rate that stays valid however often one looks: e-processes and their bounds.

Under the hypothesis it speaks against, an e-process is a non-negative supermartingale that starts
at 1, so the chance that it ever reaches 1/alpha is at most alpha (Ville 1939). The process here is
a mixture of likelihood ratios (Robbins 1970, "Statistical methods related to the law of the
iterated logarithm"; Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric,
nonasymptotic confidence sequences") over the six alternatives of `ALTERNATIVES`, each with weight
1/6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALTERNATIVES",
    "bounds",
    "e_above",
    "e_below",
    "fail_limits",
    "log_e_above",
    "log_e_below",
    "pass_limits",
]

ALTERNATIVES = (0.04, 0.1, 0.2, 0.4, 0.6, 0.8)
"""The alternatives to a rate p0: p0 times these below it; odds(p0) over these above it."""

_LARGEST_E = 1e300
"""E-values are cut here: a larger one says nothing more, and JSON has no infinity."""
_M = np.array(ALTERNATIVES)
_LOG_M = np.log(_M)
_LOG_COUNT = math.log(len(ALTERNATIVES))


def log_e_below(k: ArrayLike, n: ArrayLike, p0: ArrayLike) -> NDArray[np.float64]:
    """Natural log of `e_below`, for arrays that broadcast; stable for n to 1e7 and any k."""
    k_, n_, p_ = (np.asarray(x, dtype=np.float64)[..., None] for x in (k, n, p0))
    logs = k_ * _LOG_M + (n_ - k_) * (np.log1p(-_M * p_) - np.log1p(-p_))
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - _LOG_COUNT)


def log_e_above(k: ArrayLike, n: ArrayLike, p0: ArrayLike) -> NDArray[np.float64]:
    """Natural log of `e_above`, for arrays that broadcast; stable for n to 1e7 and any k."""
    k_, n_, p_ = (np.asarray(x, dtype=np.float64)[..., None] for x in (k, n, p0))
    logs = (n_ - k_) * _LOG_M - n_ * np.log(_M + p_ * (1.0 - _M))
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - _LOG_COUNT)


def e_below(k: float, n: float, p0: float) -> float:
    """Evidence of k true outcomes in n rows against "the rate is p0 or more".

    The mean over q = p0·m of (q/p0)^k · ((1−q)/(1−p0))^(n−k): a supermartingale for every rate
    ≥ p0, as its growth per row is linear in the rate, 1 at p0 and falling (Howard et al. 2021).
    Falls with k, grows with n and p0. 0 < p0 < 1.
    """
    return cut_e(float(log_e_below(k, n, p0)))


def e_above(k: float, n: float, p0: float) -> float:
    """Evidence of k true outcomes in n rows against "the rate is below p0".

    The mirror of `e_below` on the scale of odds, q/(1−q) = (p0/(1−p0)) / m, which keeps every
    alternative in (p0, 1): (q/p0)^k ((1−q)/(1−p0))^(n−k) = m^(n−k) / (m + p0·(1−m))^n.
    """
    return cut_e(float(log_e_above(k, n, p0)))


@lru_cache(maxsize=1024)
def bounds(k: float, n: float, alpha: float) -> tuple[float, float]:
    """The confidence sequence at (k, n): lower and upper bound of the rate, each at level alpha.

    The rates that neither process rejects at 1/alpha. Each bound by itself holds at every look
    together with chance 1 − alpha, both with 1 − 2·alpha (Howard et al. 2021). The upper bound
    is p0 or less exactly when `e_below(k, n, p0)` ≥ 1/alpha. (0, 1) without rows; exact to 1e-9.
    """
    target = -math.log(alpha)
    upper = _crossing(lambda p: log_e_below(k, n, p) >= target)
    lower = 1.0 - _crossing(lambda p: log_e_above(k, n, 1.0 - p) >= target)
    return (0.0 if lower < 1e-12 else lower), upper


@lru_cache(maxsize=64)
def pass_limits(p0: float, alpha: float, cap: int) -> NDArray[np.int64]:
    """For n = 0 … cap the largest k at which `e_below` reaches 1/alpha; -1 where none does."""
    n, target = np.arange(cap + 1, dtype=np.int64), -math.log(alpha)
    return _frozen(_largest(n, lambda k: log_e_below(k, n, p0) >= target))


@lru_cache(maxsize=64)
def fail_limits(p0: float, alpha: float, cap: int) -> NDArray[np.int64]:
    """For n = 0 … cap the smallest k at which `e_above` reaches 1/alpha; n + 1 where none does."""
    n, target = np.arange(cap + 1, dtype=np.int64), -math.log(alpha)
    return _frozen(n - _largest(n, lambda f: log_e_above(n - f, n, p0) >= target))


def _frozen(limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The array as one that callers share and cannot write to."""
    limits.flags.writeable = False
    return limits


def cut_e(log_e: float) -> float:
    return min(math.exp(min(log_e, 700.0)), _LARGEST_E)


def _crossing(holds: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> float:
    """The smallest p in (0, 1) at which a condition that stays true holds, else 1."""
    low, high = 0.0, 1.0 - 1e-15
    if not holds(np.array([high]))[0]:
        return 1.0
    while high - low > 1e-10:
        points = np.linspace(low, high, 66)[1:-1]
        first = int(np.argmax(np.append(holds(points), True)))
        low, high = (points[first - 1] if first else low), (points[first] if first < 64 else high)
    return float(high)


def _largest(
    n: NDArray[np.int64], holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """Per element the largest k in 0..n at which a condition that falls with k holds, else -1."""
    low, high = np.full_like(n, -1), n.copy()
    while np.any(low < high):
        middle = (low + high + 1) // 2
        good = holds(np.maximum(middle, 0))
        low, high = np.where(good, middle, low), np.where(good, high, middle - 1)
    return low
