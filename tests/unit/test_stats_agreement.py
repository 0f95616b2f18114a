"""Agreement of judges with people, and rates corrected for how a judge errs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexa_core.stats import Cell, Interval, agree, cohens_kappa, correct_rate, propose_threshold

MANY = 1_000_000


def test_kappa_of_a_known_table() -> None:
    """Agreement 0.7, chance 0.5: kappa 0.4 (the textbook table 20, 10, 5, 15)."""
    cells = [Cell(30 * MANY, True, 20, 10), Cell(20 * MANY, False, 5, 15)]
    assert agree(cells) == pytest.approx(0.7)
    found = cohens_kappa(cells)
    assert found.value == pytest.approx(0.4)
    assert 0.05 < found.lower < 0.4 - 1.5 * 0.12 and found.upper < 0.75


def test_labels_count_for_the_rows_they_stand_for() -> None:
    """As many labels of rejected rows as of kept ones, of a run that keeps nine in ten."""
    cells = [Cell(900, True, 45, 5), Cell(100, False, 25, 25)]
    assert correct_rate(cells).value == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
    assert agree(cells) == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
    # As Rogan and Gladen have it, with the sensitivity and specificity of the run.
    sensitivity, specificity = 0.81 / 0.86, 0.05 / 0.14
    rate = (0.9 + specificity - 1) / (sensitivity + specificity - 1)
    assert correct_rate(cells).value == pytest.approx(rate)


def test_one_verdict_for_everything_says_nothing() -> None:
    """A judge that keeps every row, and people who do too, agree by chance alone."""
    assert cohens_kappa([Cell(50, True, 50, 0)]).value == 0.0


def test_a_perfect_sample_is_no_certainty() -> None:
    """Forty agreements of forty leave kappa's lower bound under one; the rate of forty rows is known."""
    cells = [Cell(20, True, 20, 0), Cell(20, False, 0, 20)]
    assert 0.6 < cohens_kappa(cells).lower < 1.0
    assert correct_rate(cells) == Interval(0.5, 0.5, 0.5)


def test_rows_that_nobody_labelled_leave_everything_open() -> None:
    """Labels of kept rows alone say nothing about the others."""
    found = correct_rate([Cell(600, True, 60, 0), Cell(400, False)])
    assert found.lower < 0.6 and found.upper == pytest.approx(1.0)


def draw_run(draw: np.random.Generator, rate: float, sensitivity: float, specificity: float) -> Any:
    """The cells of 10,000 runs of 1,000 rows: all rows, and good ones, kept and dropped."""
    good = draw.binomial(1_000, rate, 10_000)
    kept_good = draw.binomial(good, sensitivity)
    dropped_bad = draw.binomial(1_000 - good, specificity)
    kept = kept_good + 1_000 - good - dropped_bad
    return good, kept, kept_good


@pytest.mark.parametrize("design", ["half of each", "by chance"])
@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity"),
    [
        (0.8, 0.95, 0.7),
        pytest.param(0.5, 0.8, 0.7, marks=pytest.mark.slow),
        pytest.param(0.95, 0.95, 0.9, marks=pytest.mark.slow),
    ],
)
def test_the_intervals_cover_the_truth(
    rate: float, sensitivity: float, specificity: float, design: str
) -> None:
    """In 10,000 simulated runs the 95 % interval holds the run's own rate in at least 94 %, and kappa's
    too, whether labels are drawn as `nexa label` does (half of each verdict) or by chance."""
    draw = np.random.default_rng(5)
    good, kept, kept_good = draw_run(draw, rate, sensitivity, specificity)
    by_chance = draw.hypergeometric(kept, 1_000 - kept, 60)
    ours = by_chance if design == "by chance" else 60 - np.minimum(30, 1_000 - kept)
    yes = draw.hypergeometric(kept_good, kept - kept_good, ours)
    no = draw.hypergeometric(good - kept_good, 1_000 - kept - (good - kept_good), 60 - ours)
    covered = agreed = 0
    every = (good, kept, kept_good, ours, yes, no)
    for g, k, kg, n, a, b in zip(*(each.tolist() for each in every), strict=True):
        cells = [Cell(k, True, a, n - a), Cell(1_000 - k, False, b, 60 - n - b)]
        rate_found = correct_rate(cells)
        covered += rate_found.lower <= g / 1_000 <= rate_found.upper
        truth = cohens_kappa(
            [Cell(k, True, kg, k - kg), Cell(1_000 - k, False, g - kg, 1_000 - k - g + kg)]
        )
        found = cohens_kappa(cells)
        agreed += found.lower <= truth.value <= found.upper
    assert covered >= 9_400 and agreed >= 9_400


def test_the_threshold_is_the_lowest_that_is_certified() -> None:
    """Scores over 0.5 are all good, those under it all bad: the line goes where bad ones begin."""
    scores = [0.9] * 40 + [0.7] * 40 + [0.3] * 40
    assert propose_threshold(scores, [True] * 80 + [False] * 40, risk=0.1) == 0.7


def test_few_labels_certify_nothing() -> None:
    """Ten good rows prove no risk under ten per cent."""
    assert propose_threshold([0.9] * 10, [True] * 10, risk=0.1) is None


def test_the_guarantee_holds() -> None:
    """At a true risk that no threshold meets, one is proposed in at most 5 % of 2,000 label sets."""
    draw = np.random.default_rng(6)
    proposed = 0
    for _ in range(2_000):
        scores = draw.random(150).round(1)
        good = draw.random(150) > 0.1001
        proposed += propose_threshold(scores.tolist(), good.tolist(), risk=0.1) is not None
    assert proposed <= 0.065 * 2_000


def test_the_guarantee_holds_for_labels_of_half_kept_and_half_rejected_rows() -> None:
    """Kept rows have many good ones, and few of them are labelled: at a risk of 10.01 % one in twenty errs."""
    draw = np.random.default_rng(7)
    proposed = 0
    for _ in range(1_000):
        kept, dropped = draw.uniform(0.5, 1, 100).round(1), draw.uniform(0, 0.5, 900).round(1)
        scores = [*kept[:60].tolist(), *dropped[:60].tolist()]
        good = [*[True] * 60, *(draw.random(60) > 0.1112).tolist()]
        strata = [0] * 60 + [1] * 60
        found = propose_threshold(
            scores, good, 0.1, 0.05, strata, [kept.tolist(), dropped.tolist()]
        )
        proposed += found is not None and found <= 0.1
    assert proposed <= 0.065 * 1_000
