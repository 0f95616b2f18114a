"""Agreement of judges with people, and rates corrected for how a judge errs."""

from __future__ import annotations

import numpy as np
import pytest

from nexa_core.stats import Confusion, cohens_kappa, correct_rate, propose_threshold


def test_kappa_of_a_known_table() -> None:
    """Fifty rows, agreement 0.7, chance 0.5: kappa 0.4 (the textbook table 20, 5, 10, 15)."""
    found = cohens_kappa(Confusion(20, 10, 5, 15))
    assert found.value == pytest.approx(0.4)
    assert found.lower == pytest.approx(0.4 - 1.96 * 0.1296, abs=1e-3)


def test_one_verdict_for_everything_says_nothing() -> None:
    """A judge that keeps every row, and people who do too, agree by chance alone."""
    assert cohens_kappa(Confusion(50, 0, 0, 0)).value == 0.0


def test_a_perfect_sample_is_no_certainty() -> None:
    """Twenty agreements of twenty leave the lower bound under one."""
    assert 0.6 < cohens_kappa(Confusion(10, 0, 0, 10)).lower < 1.0


def test_the_corrected_rate_of_a_known_judge() -> None:
    """80 % kept by a judge with sensitivity .90 and specificity .85 means 86.7 % good (research R11)."""
    found = correct_rate(400, 500, Confusion(45, 15, 5, 85))
    assert found is not None
    assert found.value == pytest.approx(0.8667, abs=1e-3)


def test_a_judge_at_chance_corrects_nothing() -> None:
    """No rate follows from a coin."""
    assert correct_rate(50, 100, Confusion(25, 25, 25, 25)) is None


@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity", "labels"),
    [(0.8, 0.9, 0.85, 50), (0.5, 0.8, 0.7, 100), (0.95, 0.95, 0.9, 60)],
)
def test_the_interval_covers_the_true_rate(
    rate: float, sensitivity: float, specificity: float, labels: int
) -> None:
    """In 10,000 simulations the 95 % interval holds the true rate in at least 94 %."""
    draw = np.random.default_rng(5)
    good = draw.binomial(labels, sensitivity, 10_000)
    bad = draw.binomial(labels, specificity, 10_000)
    kept = draw.binomial(500, rate * sensitivity + (1 - rate) * (1 - specificity), 10_000)
    covered = 0
    for a, b, k in zip(good.tolist(), bad.tolist(), kept.tolist(), strict=True):
        found = correct_rate(k, 500, Confusion(a, labels - b, labels - a, b))
        covered += found is not None and found.lower <= rate <= found.upper
    assert covered >= 9_400


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
