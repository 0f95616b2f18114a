"""Paired comparisons and fixed-n intervals, against scipy, published tables and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core import stats

counts = st.integers(0, 300)


@given(counts, counts)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(b, c):
    """The exact p is scipy's; mid-p takes half of the outcome's own chance off each side."""
    from scipy.stats import binom, binomtest  # every worker imports this module, few run it

    exact, midp = stats.mcnemar(b, c)
    assert exact == pytest.approx(
        binomtest(min(b, c), b + c, 0.5).pvalue if b + c else 1.0, rel=1e-9
    )
    k, n = min(b, c), b + c
    want = 1.0 if b == c else 2 * binom.cdf(k, n, 0.5) - binom.pmf(k, n, 0.5)
    assert midp == pytest.approx(want, rel=1e-9)
    assert 0 < midp <= exact <= 1


@pytest.mark.parametrize(
    ("b", "c", "exact", "midp"),
    [(25, 145, 9.356e-22, 5.472e-22), (106, 65, 0.002129, 0.001691), (5, 18, 0.0106220, 0.0066107)],
)
def test_mcnemar_gives_the_published_figures(b, c, exact, midp):
    """Four models' solutions to one test set: p-values down to 1e-22 keep their digits."""
    assert stats.mcnemar(b, c) == pytest.approx((exact, midp), rel=1e-3)


def test_the_paired_interval_gives_the_published_figures():
    """Cavo et al. 2012: −0.0621, 95 % −0.1186 to −0.0046 (Fagerland et al. 2017)."""
    found = stats.compare_pairs(59, 16, 6, 80)
    assert (found.delta, found.delta_low, found.delta_high) == pytest.approx(
        (-0.0621, -0.1186, -0.0046), abs=5e-5
    )
    assert found.p_midp == pytest.approx(0.034690, abs=1e-6)


@given(counts, counts, counts, counts)
def test_exchanging_the_arms_turns_the_difference_round(both, b, c, neither):
    """A against B and B against A give the same p and mirrored intervals around the difference."""
    one, other = stats.compare_pairs(both, b, c, neither), stats.compare_pairs(both, c, b, neither)
    assert (one.p_exact, one.p_midp, one.delta) == (other.p_exact, other.p_midp, -other.delta)
    assert (one.delta_low, one.delta_high) == pytest.approx((-other.delta_high, -other.delta_low))
    assert -1 <= one.delta_low <= one.delta <= one.delta_high <= 1


def test_the_paired_interval_covers_as_often_as_it_says():
    """In 4,000 samples of 60 pairs the 95 % interval holds the truth 93 to 98 % of times."""
    rng = np.random.default_rng(11)
    tables = rng.multinomial(60, [0.35, 0.1, 0.25, 0.3], 4000)
    held = [
        low <= 0.15 <= high
        for _, low, high in (stats.newcombe(*table) for table in tables.tolist())
    ]
    assert 0.93 < np.mean(held) < 0.98


def test_sign_flips_of_clusters_of_one_are_the_exact_test_of_signs():
    """With one item per cluster the permutation test is McNemar's exact test."""
    assert stats.sign_flip([[1.0]] * 9 + [[-1.0]] * 2 + [[0.0]] * 3) == pytest.approx(
        stats.mcnemar(2, 9)[0]
    )


def test_sign_flips_agree_with_enumeration_and_with_sampling():
    """Few clusters are enumerated, many are sampled, and both count the same thing."""
    clusters = [[1, 1, 0], [1, -1], [1], [0, 1], [1, 1]]
    totals = [sum(c) for c in clusters]
    sums = [
        sum(s * t for s, t in zip(signs, totals, strict=True))
        for signs in product([1, -1], repeat=5)
    ]
    exact = np.mean([abs(s) >= abs(sum(totals)) for s in sums])
    assert stats.sign_flip(clusters) == pytest.approx(exact)
    padded = clusters + [[0.0]] * 20
    assert stats.sign_flip(padded, draws=20_000, seed=1) == pytest.approx(exact, abs=0.01)


def test_a_sampled_p_is_never_zero():
    """Forty clusters that all agree: no flip is as extreme, and p is one in the draws plus one."""
    assert stats.sign_flip([[1.0]] * 40, draws=99) == pytest.approx(0.01)


def test_holm_steps_down_and_keeps_the_order_given():
    """Holm's own arithmetic: 3·0.01, then 2·0.02, then the largest so far."""
    assert stats.holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.9, 0.6]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.integers(1, 400), st.data(), st.sampled_from([0.05, 0.01]))
def test_fixed_intervals_agree_with_scipy(n, data, alpha):
    """Clopper–Pearson and Wilson are scipy's intervals."""
    from scipy.stats import binomtest

    k = data.draw(st.integers(0, n))
    exact = binomtest(k, n).proportion_ci(1 - 2 * alpha, "exact")
    assert stats.clopper_pearson(k, n, alpha) == pytest.approx((exact.low, exact.high), abs=1e-9)
    score = binomtest(k, n).proportion_ci(1 - alpha, "wilson")
    assert stats.wilson(k, n, 1 - alpha) == pytest.approx((score.low, score.high), abs=1e-9)


def test_nothing_measured_proves_nothing():
    """Without items the difference lies anywhere and p is 1."""
    empty = stats.compare_pairs(0, 0, 0, 0)
    assert (empty.p_exact, empty.delta_low, empty.delta_high) == (1.0, -1.0, 1.0)
    assert stats.wilson(0, 0) == stats.clopper_pearson(0, 0, 0.05) == (0.0, 1.0)


@pytest.mark.parametrize(("effect", "discordance", "pairs"), [(0.05, 0.1, 465), (0.1, 0.3, 348)])
def test_pairs_needed_agree_with_the_published_table(effect, discordance, pairs):
    """80 % power at p < .01, two-sided."""
    assert stats.pairs_needed(effect, discordance, 0.01) == pairs


def test_pairs_needed_give_the_power_they_promise():
    """At +10 points, 30 % discordant, the test of simulated pairs finds it in 80 % of 2,000 trials."""
    n = stats.pairs_needed(0.1, 0.3, 0.05)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n, [0.1, 0.2, 0.7], 2000)
    found = np.mean([stats.mcnemar(int(b), int(c))[1] < 0.05 for b, c, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.03)
