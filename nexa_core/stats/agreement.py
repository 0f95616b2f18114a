"""How far a judge agrees with people, and what that makes of the rates it reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nexa_core.stats.intervals import clopper_pearson

__all__ = [
    "Cell",
    "Confusion",
    "Interval",
    "agree",
    "cohens_kappa",
    "correct_rate",
    "propose_threshold",
]


Bounds = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Interval:
    """A value with its lower and upper bound."""

    value: float
    lower: float
    upper: float

    def as_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Confusion:
    """Labelled rows, people's verdicts against a judge's: `kept_good` both keep, `dropped_bad` both reject.

    `kept_bad` are the judge's mistakes that reach the dataset, `dropped_good` those that do not. Rates of
    a whole run do not follow from these counts where labels are not drawn from it evenly: see `Cell`.
    """

    kept_good: int
    kept_bad: int
    dropped_good: int
    dropped_bad: int

    @classmethod
    def of(cls, people: Sequence[bool], judge: Sequence[bool]) -> Confusion:
        """Count pairs of verdicts; True keeps the row."""
        pairs = list(zip(people, judge, strict=True))
        return cls(
            *(pairs.count(p) for p in ((True, True), (False, True), (True, False), (False, False)))
        )

    def as_json(self) -> dict[str, Any]:
        """The four counts."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """Rows that were drawn for labels alike: `rows` in all, of which the judge `kept` every one or none.

    `good` and `bad` count those that people labelled. Labels must be drawn by chance within a cell, and
    may be as many of one and as few of another as one likes.
    """

    rows: int
    kept: bool
    good: int = 0
    bad: int = 0

    @property
    def labels(self) -> int:
        return self.good + self.bad

    @property
    def share(self) -> float:
        """The share of good rows; one half where nobody knows."""
        return self.good / self.labels if self.labels else 0.5

    def bound(self, alpha: float, of_run: bool = True) -> tuple[float, float]:
        """The bounds of the share, each at alpha / 2 (Clopper-Pearson): of this run's rows, or of rows like them.

        Of the run's own rows nothing is unknown where all are labelled (finite population correction).
        """
        left = max(self.rows - self.labels, 0) / max(self.rows - 1, 1)
        narrow = math.sqrt(min(1.0, left)) if of_run else 1.0
        low, high = clopper_pearson(self.good, self.labels, alpha / 2)
        return self.share - narrow * (self.share - low), self.share + narrow * (high - self.share)


def correct_rate(cells: Sequence[Cell], alpha: float = 0.05) -> Interval:
    """The share of good rows in a run, where a judge says one thing and people said another of some rows.

    It is the estimate of Rogan and Gladen 1978, (kept + specificity − 1) / (sensitivity + specificity − 1),
    with both taken from labels that count for as many rows as their cell holds: sensitivities of labels
    drawn by the judge's own verdict would be those of no run. The bounds join those of the cells as
    Zou and Donner 2008 (MOVER) do.
    """
    total = sum(cell.rows for cell in cells)
    weights = [cell.rows / total for cell in cells]
    value = sum(weight * cell.share for weight, cell in zip(weights, cells, strict=True))
    down, up = _join(cells, weights, [cell.bound(alpha) for cell in cells])
    return Interval(value, max(0.0, value - down), min(1.0, value + up))


def agree(cells: Sequence[Cell]) -> float:
    """The share of a run's rows of which people and judge say the same."""
    total = sum(cell.rows for cell in cells)
    same = (c.rows * (c.share if c.kept else 1 - c.share) for c in cells)
    return sum(same) / total


def cohens_kappa(cells: Sequence[Cell], alpha: float = 0.05) -> Interval:
    """Agreement beyond chance over a run's rows, 1 is perfect and 0 is chance, with its bounds at 1 − alpha.

    Cohen 1960, over labels that count for as many rows as their cell holds. The bounds follow those of the
    cells along kappa's slope (MOVER, Zou and Donner 2008), and are those of further rows too. Where one of
    the two says the same of every row, kappa says nothing and is 0.
    """
    total = sum(cell.rows for cell in cells)
    kept = sum(cell.rows for cell in cells if cell.kept) / total
    good = sum(cell.rows * cell.share for cell in cells) / total
    chance = good * kept + (1 - good) * (1 - kept)
    if chance >= 1:
        return Interval(0.0, -1.0, 1.0)
    apart = (1 - agree(cells)) / (1 - chance)
    slopes = [
        cell.rows / total * ((1 if cell.kept else -1) - apart * (2 * kept - 1)) / (1 - chance)
        for cell in cells
    ]
    down, up = _join(cells, slopes, [cell.bound(alpha, of_run=False) for cell in cells])
    return Interval(1 - apart, max(-1.0, 1 - apart - down), min(1.0, 1 - apart + up))


def propose_threshold(
    scores: Sequence[float],
    good: Sequence[bool],
    risk: float = 0.1,
    alpha: float = 0.05,
    strata: Sequence[int] | None = None,
    run: Sequence[Sequence[float]] | None = None,
) -> float | None:
    """The lowest threshold at which at most `risk` of the kept rows are bad, certified at 1 − alpha.

    Learn then Test with a fixed sequence (Angelopoulos et al. 2021): thresholds are walked from strict
    to loose, and the last one before the first whose upper bound (Clopper-Pearson, one-sided) is over
    `risk` is taken. With probability 1 − alpha over the labels the risk holds on rows like them.
    None where not even the strictest threshold can be certified.

    Args:
        strata: For each label, which of the `run`'s strata it was drawn from; all from one by default.
        run: The scores of every row, by stratum; the bound is theirs, each stratum's at its share.
    """
    own = np.zeros(len(scores), int) if strata is None else np.asarray(strata)
    values, fine = np.asarray(scores, float), np.asarray(good, bool)
    every = [np.sort(np.asarray(each, float)) for each in (run or [scores])]
    chosen: float | None = None
    for threshold in sorted(set(scores), reverse=True):
        sizes = [len(each) - int(np.searchsorted(each, threshold)) for each in every]
        kept = [fine[(values >= threshold) & (own == stratum)] for stratum in range(len(every))]
        bad = [int(np.sum(~each)) for each in kept]
        if _bound(sizes, kept, bad, alpha) <= risk:
            chosen = threshold
        elif chosen is not None or _bound(sizes, kept, [0] * len(kept), alpha) <= risk:
            break  # it could have been certified, had the labels been better
    return chosen


def _bound(sizes: Sequence[int], kept: Sequence[Any], bad: Sequence[int], alpha: float) -> float:
    """At most this share of the kept rows is bad, at 1 − alpha over all strata that have any."""
    own = alpha / max(1, sum(map(bool, sizes)))
    upper = (clopper_pearson(k, len(each), own)[1] for k, each in zip(bad, kept, strict=True))
    return sum(size * most for size, most in zip(sizes, upper, strict=True)) / max(1, sum(sizes))


def _join(cells: Sequence[Cell], slopes: Sequence[float], bounds: Bounds) -> tuple[float, float]:
    """How far a value reaches down and up, from the bounds of its cells, each by its slope."""
    down = up = 0.0
    for cell, slope, (low, high) in zip(cells, slopes, bounds, strict=True):
        below, above = slope * (cell.share - low), slope * (high - cell.share)
        down += (below if slope > 0 else above) ** 2
        up += (above if slope > 0 else below) ** 2
    return math.sqrt(down), math.sqrt(up)
