"""Whether a rate has risen against an earlier sample: evidence that holds however often one looks."""

from __future__ import annotations

import math

from nexa_core.stats.sequential import cut_e

__all__ = ["e_drift", "log_e_drift"]

_STEPS = 60


def log_e_drift(k0: int, n0: int, k1: int, n1: int, margin: float = 0.0) -> float:
    """Natural log of `e_drift`."""
    if n0 == 0 or n1 == 0 or k1 / n1 <= k0 / n0 + margin:
        return min(0.0, _log_mixture(k0, n0) + _log_mixture(k1, n1) - _log_free(k0, n0, k1, n1))
    null = _log_at(_best_rate(k0, n0, k1, n1, margin), k0, n0, k1, n1, margin)
    return _log_mixture(k0, n0) + _log_mixture(k1, n1) - null


def e_drift(k0: int, n0: int, k1: int, n1: int, margin: float = 0.0) -> float:
    """Evidence against "the second rate is at most the first plus `margin`".

    k0 of n0 rows are the earlier sample, k1 of n1 those since; margin in 0 … 1. The numerator gives
    each rate its own Krichevsky-Trofimov mixture (Beta(½, ½)), the denominator is the largest
    likelihood that any pair of rates under the hypothesis reaches: universal inference, whose
    quotient is an e-process in n1 for the whole composite hypothesis (Wasserman, Ramdas &
    Balakrishnan 2020, "Universal inference", §8; Ramdas et al. 2022, arXiv:2009.03167).
    """
    return cut_e(log_e_drift(k0, n0, k1, n1, margin))


def _log_mixture(k: int, n: int) -> float:
    """The log chance of a sequence with k true of n, mixed over rates with Beta(½, ½)."""
    return math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - math.log(math.pi)


def _log_free(k0: int, n0: int, k1: int, n1: int) -> float:
    return _entropy(k0, n0) + _entropy(k1, n1)


def _entropy(k: int, n: int) -> float:
    return 0.0 if n == 0 else _times_log(k, k / n) + _times_log(n - k, 1 - k / n)


def _log_at(p: float, k0: int, n0: int, k1: int, n1: int, margin: float) -> float:
    q = p + margin
    return (
        _times_log(k0, p)
        + _times_log(n0 - k0, 1 - p)
        + _times_log(k1, q)
        + _times_log(n1 - k1, 1 - q)
    )


def _times_log(count: int, chance: float) -> float:
    return 0.0 if count == 0 else count * math.log(max(chance, 1e-300))


def _best_rate(k0: int, n0: int, k1: int, n1: int, margin: float) -> float:
    """The first rate at which rates `margin` apart are likeliest: the log-likelihood is concave."""
    low, high = 0.0, 1.0 - margin
    for _ in range(_STEPS):
        p = (low + high) / 2
        q = p + margin
        slope = k0 / p - (n0 - k0) / (1 - p) + k1 / q - (n1 - k1) / max(1 - q, 1e-300)
        low, high = (p, high) if slope > 0 else (low, p)
    return (low + high) / 2
