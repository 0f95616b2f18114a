"""Two arms on the same items: is one right more often, by how much, and is that luck?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nexa_core.stats.intervals import wilson

__all__ = [
    "PairedComparison",
    "compare_pairs",
    "holm",
    "mcnemar",
    "newcombe",
    "pairs_needed",
    "sign_flip",
]

_EXACT_CLUSTERS = 16


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Arm A against arm B on n items; `delta` is the accuracy of B minus that of A.

    `a`: both right, `b`: right in A only, `c`: right in B only, `d`: neither. `p_exact` and
    `p_midp` are two-sided; `delta_low` and `delta_high` bound the difference at `confidence`.
    """

    n: int
    a: int
    b: int
    c: int
    d: int
    p_exact: float
    p_midp: float
    delta: float
    delta_low: float
    delta_high: float
    confidence: float = 0.95

    def as_json(self) -> dict[str, Any]:
        """The comparison as `--json` and `comparison.json` print it."""
        return asdict(self)


def compare_pairs(
    both: int, b: int, c: int, neither: int, confidence: float = 0.95
) -> PairedComparison:
    """Compare two arms from the counts of their four joint outcomes."""
    p_exact, p_midp = mcnemar(b, c)
    delta, low, high = newcombe(both, b, c, neither, confidence)
    n = both + b + c + neither
    return PairedComparison(n, both, b, c, neither, p_exact, p_midp, delta, low, high, confidence)


def mcnemar(b: int, c: int) -> tuple[float, float]:
    """Two-sided p of McNemar's test from the discordant counts: exact conditional, and mid-p.

    exact = 2·P(X ≤ min(b, c)), at most 1; mid-p = exact − P(X = min(b, c)) for X ~ Bin(b + c, ½),
    and 1 where b = c (Fagerland, Lydersen & Laake 2013, BMC Med Res Methodol 13:91: mid-p holds its
    level in practice where the exact test is conservative).
    """
    from scipy.special import bdtr, gammaln

    n, k = b + c, min(b, c)
    if b == c:
        return 1.0, 1.0
    tail = float(bdtr(k, n, 0.5))
    log_point = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2.0)
    exact = min(2.0 * tail, 1.0)
    return exact, max(2.0 * tail - math.exp(float(log_point)), 0.0)


def newcombe(
    both: int, b: int, c: int, neither: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The difference accuracy B − accuracy A with its lower and upper bound.

    Method 10 of Newcombe 1998 (Stat Med 17:2635–2650): score intervals of both accuracies, squared
    and added, with the continuity-corrected correlation of the pairs.
    """
    n = both + b + c + neither
    if n == 0:
        return 0.0, -1.0, 1.0
    right_a, right_b = both + b, both + c
    rate_a, rate_b = right_a / n, right_b / n
    low_a, high_a = wilson(right_a, n, confidence)
    low_b, high_b = wilson(right_b, n, confidence)
    phi = _correlation(both, b, c, neither)
    delta = (c - b) / n
    down = _added(rate_b - low_b, high_a - rate_a, phi)
    up = _added(rate_a - low_a, high_b - rate_b, phi)
    return delta, max(delta - down, -1.0), min(delta + up, 1.0)


def pairs_needed(effect: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The pairs at which McNemar's test finds a difference of `effect` with chance `power`.

    `discordance` is the share of items on which the arms differ, at least the effect (Connor 1987,
    Biometrics 43:207-211): (z(1 - alpha/2)·√ψ + z(power)·√(ψ - δ²))² / δ².
    """
    from scipy.special import ndtri

    if not 0 < abs(effect) <= discordance <= 1:
        raise ValueError(f"an effect of {effect:g} needs a discordance from {abs(effect):g} to 1")
    width = float(ndtri(1 - alpha / 2)) * math.sqrt(discordance)
    width += float(ndtri(power)) * math.sqrt(discordance - effect**2)
    return math.ceil(width**2 / effect**2)


def sign_flip(differences: Sequence[Sequence[float]], draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of "no difference" when items come in clusters: each cluster's sign is flipped.

    `differences` holds, per cluster, B − A of every item. Exact up to 16 clusters, else
    (1 + hits)/(1 + draws) from random flips, which is valid (Phipson & Smyth 2010); the test is
    Fisher's randomisation test (Edgington 1980) with the cluster as the unit.
    """
    totals = np.array([math.fsum(cluster) for cluster in differences], dtype=np.float64)
    observed = abs(float(totals.sum())) - 1e-12 * max(float(np.abs(totals).sum()), 1.0)
    if len(totals) <= _EXACT_CLUSTERS:
        bits = np.arange(2 ** len(totals))[:, None] >> np.arange(len(totals))[None, :]
        sums = ((bits & 1) * 2.0 - 1.0) @ totals
        return float(np.mean(np.abs(sums) >= observed))
    rng, hits = np.random.default_rng(seed), 0
    for start in range(0, draws, 1000):
        size = min(1000, draws - start)
        signs = rng.integers(0, 2, (size, len(totals))) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ totals) >= observed))
    return (1 + hits) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given (Holm 1979): reject where ≤ alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return adjusted


def _correlation(both: int, b: int, c: int, neither: int) -> float:
    margins = (both + b) * (c + neither) * (both + c) * (b + neither)
    if margins == 0:
        return 0.0
    cross, half = both * neither - b * c, (both + b + c + neither) / 2
    corrected = cross - half if cross > half else min(cross, 0)
    return corrected / math.sqrt(margins)


def _added(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(first * first - 2 * phi * first * second + second * second, 0.0))
