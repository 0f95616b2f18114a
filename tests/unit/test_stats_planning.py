"""Planning: the rows a decision takes and the chance that it is a pass, exact."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core import stats


@pytest.mark.parametrize(("failures", "rows"), [(0, 113), (1, 166), (2, 213)])
def test_five_percent_needs_the_rows_the_design_promises(failures, rows):
    """At level 0.01, "< 5 %" needs 113 rows without a failure and 166 with one."""
    assert stats.rows_to_pass(0.05, 0.01, failures) == rows
    assert stats.e_below(failures, rows, 0.05) >= 100 > stats.e_below(failures, rows - 1, 0.05)


@pytest.mark.parametrize(("rate", "rows"), [(0.01, 166), (0.02, 401)])
def test_half_of_all_pilots_have_passed_by_the_median(rate, rows):
    """The median is 166 rows at a true 1 % and about 400 at 2 %."""
    assert stats.chance_to_pass(0.05, 0.01, rate, rows - 1) < 0.5
    assert stats.chance_to_pass(0.05, 0.01, rate, rows) >= 0.5


def enumerate_chance(p0: float, alpha: float, rate: float, cap: int) -> float:
    """The chance of a pass by walking through every sequence of outcomes."""
    total, looks = 0.0, [(k, n) for n in range(1, cap + 1) for k in range(n + 1)]
    fails = {look for look in looks if stats.e_above(*look, p0) >= 1 / alpha}
    passes = {look for look in looks if stats.e_below(*look, p0) >= 1 / alpha}
    for outcomes in product([0, 1], repeat=cap):
        k = 0
        for n, failed in enumerate(outcomes, 1):
            k += failed
            if (k, n) in fails:
                break
            if (k, n) in passes:
                total += rate ** sum(outcomes) * (1 - rate) ** (cap - sum(outcomes))
                break
    return total


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.6])
def test_the_chance_to_pass_equals_the_sum_over_all_sequences(rate):
    """Row by row and by enumeration of all 4,096 sequences the chance is the same."""
    assert stats.chance_to_pass(0.5, 0.5, rate, 12) == pytest.approx(
        enumerate_chance(0.5, 0.5, rate, 12)
    )


def test_the_predictive_chance_agrees_with_simulation():
    """Drawing the rate from its Jeffreys posterior and playing on gives the same chance."""
    rng, wins, n = np.random.default_rng(3), [], np.arange(114, 601)
    looks = np.meshgrid(np.arange(100), n)
    good = stats.log_e_below(*looks, 0.05) >= np.log(100)
    bad = stats.log_e_above(*looks, 0.05) >= np.log(100)
    for rate in rng.beta(2.5, 111.5, 3000):
        k = 2 + np.cumsum(rng.random(487) < rate)
        passed, failed = good[n - 114, k], bad[n - 114, k]
        wins.append(passed.any() and (not failed.any() or passed.argmax() < failed.argmax()))
    assert stats.predict_pass(2, 113, 0.05, 0.01, 600).chance == pytest.approx(
        np.mean(wins), abs=0.025
    )


@given(st.integers(0, 30), st.integers(30, 200), st.integers(0, 300))
def test_a_predictive_chance_grows_with_the_cap_and_falls_with_failures(k, n, more):
    """More room never lowers the chance; a failure more never raises it."""
    chance = stats.predict_pass(k, n, 0.05, 0.01, n + more).chance
    assert 0 <= chance <= 1
    assert stats.predict_pass(k, n, 0.05, 0.01, n + more + 50).chance >= chance - 1e-12
    assert stats.predict_pass(k + 1, n, 0.05, 0.01, n + more).chance <= chance + 1e-12


def test_what_has_passed_needs_nothing_and_what_cannot_pass_has_no_next_look():
    """A passed count predicts 1 with 0 further rows; a hopeless one predicts 0 and has none."""
    assert stats.predict_pass(0, 113, 0.05, 0.01, 600) == (1, 0)
    assert stats.predict_pass(3, 113, 0.05, 0.01, 120) == (0, None)
    assert stats.predict_pass(1, 113, 0.05, 0.01, 600).rows_likely == 53
