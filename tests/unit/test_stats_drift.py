"""Drift between two samples: rarely seen where there is none, soon where there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from nexa_core import stats


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.5, 0.9])
def test_it_expects_at_most_one_where_nothing_drifted(rate, margin):
    """Summed over every outcome of 8 and 9 rows at the edge of the hypothesis, E is at most 1."""
    n0, n1 = 8, 9
    total = sum(
        binom.pmf(k0, n0, rate)
        * binom.pmf(k1, n1, min(rate + margin, 1.0))
        * stats.e_drift(k0, n0, k1, n1, margin)
        for k0, k1 in itertools.product(range(n0 + 1), range(n1 + 1))
    )
    assert total <= 1.0


def test_the_denominator_is_the_best_pair_of_rates():
    """The likelihood under the hypothesis is maximal, as scipy finds it."""
    k0, n0, k1, n1, margin = 3, 120, 60, 400, 0.02

    def lost(p):
        return -binom.logpmf(k0, n0, p) - binom.logpmf(k1, n1, p + margin)

    best = -minimize_scalar(lost, bounds=(1e-9, 0.97), method="bounded").fun
    best -= math.log(math.comb(n0, k0)) + math.log(math.comb(n1, k1))
    mixed = sum(
        math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
        for k, n in ((k0, n0), (k1, n1))
    )
    assert stats.log_e_drift(k0, n0, k1, n1, margin) == pytest.approx(mixed - best, abs=1e-6)


def test_stable_runs_hardly_ever_alarm():
    """400 runs of 113 + 40 × 250 rows at one rate, a look after every shard: at most 5 % alarm."""
    rng = np.random.default_rng(0)
    alarmed = 0
    for rate in (0.01, 0.04, 0.2, 0.5):
        k0 = rng.binomial(113, rate, 100)
        later = rng.binomial(250, rate, (100, 40)).cumsum(axis=1)
        for first, counts in zip(k0.tolist(), later.tolist(), strict=True):
            looks = ((k, 250 * (i + 1)) for i, k in enumerate(counts))
            alarmed += any(stats.e_drift(first, 113, k, n) >= 20 for k, n in looks)
    assert alarmed <= 0.05 * 400


def test_a_rate_that_jumps_is_seen_soon():
    """From 1 of 150 rows to 12 %: certain at 1 in 100 within 400 rows."""
    assert stats.e_drift(1, 150, 48, 400, 0.01) >= 100
    assert stats.e_drift(1, 150, 2, 200, 0.01) < 1


def test_less_than_the_margin_is_never_seen():
    """A rise by under the margin is no evidence, whatever the number of rows."""
    assert stats.e_drift(2, 200, 180_00, 1_000_000, 0.01) <= 1


@pytest.mark.parametrize(("k0", "n0", "k1", "n1"), [(0, 0, 5, 9), (3, 9, 0, 0), (0, 5, 5, 5)])
def test_no_rows_and_sure_rates_have_an_answer(k0, n0, k1, n1):
    """Without rows nothing is known; rates of 0 and 1 take no logarithm of 0."""
    assert math.isfinite(stats.log_e_drift(k0, n0, k1, n1, 0.1))
    assert (n0 and n1) or stats.e_drift(k0, n0, k1, n1) <= 1
