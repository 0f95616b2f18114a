"""How far a judge agrees with people, and what that makes of the rates it reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nexa_core.stats.intervals import clopper_pearson

__all__ = ["Confusion", "Interval", "cohens_kappa", "correct_rate", "propose_threshold"]


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
    """People's verdicts against a judge's: `kept_good` rows both keep, `dropped_bad` both reject.

    `kept_bad` are the judge's mistakes that reach the dataset, `dropped_good` those that do not.
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

    @property
    def n(self) -> int:
        return self.kept_good + self.kept_bad + self.dropped_good + self.dropped_bad

    @property
    def accuracy(self) -> float:
        """The share of rows on which both agree."""
        return (self.kept_good + self.dropped_bad) / self.n

    def as_json(self) -> dict[str, Any]:
        """The four counts, and the accuracy."""
        return {**asdict(self), "accuracy": self.accuracy}


def cohens_kappa(table: Confusion, alpha: float = 0.05) -> Interval:
    """Agreement beyond chance, 1 is perfect and 0 is chance, with its bounds at 1 − alpha.

    Cohen 1960; the standard error is sqrt(po (1 − po) / (n (1 − pe)²)). Where one of the two says the
    same of every row, kappa says nothing and is 0.
    """
    n, observed = table.n, table.accuracy
    people = (table.kept_good + table.dropped_good) / n
    judge = (table.kept_good + table.kept_bad) / n
    chance = people * judge + (1 - people) * (1 - judge)
    if chance >= 1:
        return Interval(0.0, -1.0, 1.0)
    value = (observed - chance) / (1 - chance)
    # One disagreement more keeps a perfect sample from being a certainty.
    spread = min(observed, (n - 0.5) / n)
    error = math.sqrt(spread * (1 - spread) / n) / (1 - chance)
    z = _quantile(alpha)
    return Interval(value, max(-1.0, value - z * error), min(1.0, value + z * error))


def correct_rate(kept: int, n: int, table: Confusion, alpha: float = 0.05) -> Interval | None:
    """The true share of good rows, where a judge kept `kept` of `n` and `table` says how it errs.

    The estimate of Rogan and Gladen 1978 with the interval of Lang and Reiczigel 2014, which counts
    the uncertainty of the labels too. None where the judge is no better than chance: sensitivity plus
    specificity at most 1.
    """
    good, bad = table.kept_good + table.dropped_good, table.kept_bad + table.dropped_bad
    if n == 0 or good == 0 or bad == 0:
        return None
    if table.kept_good / good + table.dropped_bad / bad <= 1:
        return None
    z2 = _quantile(alpha) ** 2
    size, goods, bads = n + z2, good + 2, bad + 2
    rate = (kept + z2 / 2) / size
    sensitivity, specificity = (table.kept_good + 1) / goods, (table.dropped_bad + 1) / bads
    power = sensitivity + specificity - 1
    value = (rate + specificity - 1) / power
    of_good = sensitivity * (1 - sensitivity) / goods
    of_bad = specificity * (1 - specificity) / bads
    shift = 2 * z2 * (value * of_good - (1 - value) * of_bad)
    variance = rate * (1 - rate) / size + value**2 * of_good + (1 - value) ** 2 * of_bad
    half = math.sqrt(z2 * variance) / power
    plain = (kept / n + table.dropped_bad / bad - 1) / (
        table.kept_good / good + table.dropped_bad / bad - 1
    )
    return Interval(_clip(plain), _clip(value + shift - half), _clip(value + shift + half))


def propose_threshold(
    scores: Sequence[float], good: Sequence[bool], risk: float = 0.1, alpha: float = 0.05
) -> float | None:
    """The lowest threshold at which at most `risk` of the kept rows are bad, certified at 1 − alpha.

    Learn then Test with a fixed sequence (Angelopoulos et al. 2021): thresholds are walked from strict
    to loose, and the last one before the first whose upper bound (Clopper-Pearson, one-sided) is over
    `risk` is taken. With probability 1 − alpha over the labels the risk holds on rows like them.
    None where not even the strictest threshold can be certified.
    """
    chosen: float | None = None
    for threshold in sorted(set(scores), reverse=True):
        kept = [each for score, each in zip(scores, good, strict=True) if score >= threshold]
        bad = len(kept) - sum(kept)
        if clopper_pearson(bad, len(kept), alpha)[1] <= risk:
            chosen = threshold
        elif chosen is not None or len(kept) >= _fewest(risk, alpha):
            break
    return chosen


def _fewest(risk: float, alpha: float) -> int:
    """The fewest rows that could certify the risk: all of them good."""
    return math.ceil(math.log(alpha) / math.log(1 - risk))


def _quantile(alpha: float) -> float:
    """Of the normal distribution, two-sided."""
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2))


def _clip(share: float) -> float:
    return min(1.0, max(0.0, share))
