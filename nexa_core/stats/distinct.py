"""How many different things a sample of another size would hold: rarefaction and extrapolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["expected_distinct", "expected_duplicates"]


def expected_distinct(counts: Sequence[int], rows: int) -> float:
    """The number of different texts expected among `rows` rows; `counts` holds how often each came.

    Up to the rows seen, exact (Hurlbert 1971: every text by its chance to be in a subset). Beyond,
    S + f0·(1 − (1 − f1/(n·f0 + f1))^m) for m rows more, with f0 unseen texts estimated from those
    that came once and twice (Chao 1984; Colwell et al. 2012, J. Plant Ecol. 5:3–21, eq. 9). The
    estimate of the unseen is a lower bound, good to about three times the rows seen; so are the
    different texts, and the duplicates are an upper one.
    """
    found = np.array([count for count in counts if count > 0], dtype=np.int64)
    n, kinds = int(found.sum()), len(found)
    if rows <= 0 or n == 0:
        return 0.0
    if rows <= n:
        return kinds - float(np.exp(_log_absent(found, n, rows)).sum())
    once, twice = int((found == 1).sum()), int((found == 2).sum())
    unseen = once**2 / (2 * twice) if twice else once * (once - 1) / 2
    unseen *= (n - 1) / n
    if unseen == 0:
        return float(kinds + (rows - n) * (once == n))
    missed = (1 - once / (n * unseen + once)) ** (rows - n)
    return kinds + unseen * (1 - missed)


def expected_duplicates(counts: Sequence[int], rows: int) -> float:
    """The rows of `rows` that repeat an earlier one; see `expected_distinct`."""
    return max(0.0, rows - expected_distinct(counts, rows))


def _log_absent(found: np.ndarray, n: int, rows: int) -> np.ndarray:
    """Per text the log chance of being in none of `rows` of n rows; −inf where it must be."""
    from scipy.special import gammaln

    left = n - found - rows
    possible = left >= 0
    logs = (
        gammaln(n - found + 1)
        - gammaln(np.where(possible, left, 0) + 1)
        - (math.lgamma(n + 1) - math.lgamma(n - rows + 1))
    )
    return np.where(possible, logs, -np.inf)
