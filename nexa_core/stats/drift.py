"""Whether a rate has risen against an earlier sample, by bounds that hold however often one looks."""

from __future__ import annotations

from typing import NamedTuple

from nexa_core.stats.sequential import bounds

__all__ = ["Rise", "compare_rates"]

_EARLIER = 0.8
"""The part of the error that the earlier sample's bound may take: it is small and grows no more."""


class Rise(NamedTuple):
    """The most that the first rate can have been, the least that the second can be, and whether
    they lie further apart than the margin."""

    before: float
    after: float
    risen: bool


def compare_rates(k0: int, n0: int, k1: int, n1: int, alpha: float, margin: float = 0.0) -> Rise:
    """Whether the rate of k1 of n1 rows lies over that of k0 of n0 rows by more than `margin`.

    Both bounds are confidence sequences (`bounds`), the earlier at 0.8·alpha and the later at 0.2·alpha.
    As long as the second rate is at most the first plus the margin, the chance that they ever come
    apart, at any look at either sample, is at most alpha: one of the two bounds would have to be wrong.
    """
    before = bounds(k0, n0, _EARLIER * alpha)[1]
    after = bounds(k1, n1, (1 - _EARLIER) * alpha)[0]
    return Rise(before, after, after > before + margin)
