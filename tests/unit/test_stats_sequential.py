"""The e-process: valid at every look, monotone, and as sharp as the design says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core import stats

rates = st.floats(0.01, 0.99)


def expected(e, n: int, p0: float, rate: float) -> float:
    from scipy.stats import binom  # every worker imports this module, few run it

    chances = binom.pmf(np.arange(n + 1), n, rate)
    return sum(chance * e(k, n, p0) for k, chance in enumerate(chances))


@given(st.integers(1, 25), rates, st.floats(0, 1))
def test_neither_process_grows_under_the_hypothesis_it_speaks_against(n, p0, where):
    """The mean of an e-value is at most 1 at the threshold and on the wrong side of it."""
    assert expected(stats.e_below, n, p0, p0 + where * (1 - p0)) <= 1 + 1e-9
    assert expected(stats.e_above, n, p0, p0 * (1 - where)) <= 1 + 1e-9


@given(st.integers(1, 400), st.data(), rates)
def test_a_failure_more_never_helps_and_a_good_row_more_never_hurts(n, data, p0):
    """Evidence for a pass falls with every failure and grows with every row without one."""
    k = data.draw(st.integers(0, n - 1))
    log = stats.log_e_below
    assert log(k + 1, n, p0) < log(k, n, p0) < log(k, n + 1, p0)
    assert stats.log_e_above(k + 1, n, p0) > stats.log_e_above(k, n, p0)


@given(st.integers(0, 300), st.data(), st.sampled_from([0.05, 0.01, 0.001]))
def test_the_bounds_are_the_process_inverted(n, data, alpha):
    """A rate inside the bounds is rejected by neither process, a rate outside by one of them."""
    k = data.draw(st.integers(0, n))
    low, high = stats.bounds(k, n, alpha)
    assert 0 <= low <= (k / n if n else 0.5) <= high <= 1
    if high < 1 - 1e-5:
        assert stats.e_below(k, n, high + 1e-6) >= 1 / alpha > stats.e_below(k, n, high - 1e-6)
    if low > 1e-5:
        assert stats.e_above(k, n, low - 1e-6) >= 1 / alpha > stats.e_above(k, n, low + 1e-6)


@pytest.mark.parametrize(
    ("k", "n", "expected"), [(0, 0, (0, 1)), (1, 1, (0, 1)), (7, 7, (None, 1)), (0, 50, (0, None))]
)
def test_bounds_reach_zero_and_one_where_nothing_speaks_against_them(k, n, expected):
    """Without a failure the lower bound is 0, without a good row the upper bound is 1."""
    assert all(
        want is None or got == want
        for got, want in zip(stats.bounds(k, n, 0.01), expected, strict=True)
    )


def test_large_counts_stay_finite():
    """Ten million rows give finite logarithms and e-values that JSON can hold."""
    for k in (0, 1, 5_000_000, 10_000_000):
        assert math.isfinite(stats.log_e_below(k, 10**7, 0.05))
        assert math.isfinite(stats.log_e_above(k, 10**7, 0.05))
        assert stats.e_below(k, 10**7, 0.05) <= 1e300 >= stats.e_above(k, 10**7, 0.05)


def test_nineteen_runaways_in_150_prove_a_rate_above_five_percent():
    """The example of the design: 19 of 150 is a FAIL of "< 5 %" at level 0.01."""
    assert stats.e_above(19, 150, 0.05) > 100
    assert stats.bounds(19, 150, 0.01) == pytest.approx((0.0519, 0.2399), abs=1e-4)


def test_looking_after_every_row_certifies_a_bad_rate_no_more_often_than_alpha():
    """5,000 series at exactly the threshold, a look after each row: at most alpha ever pass."""
    rng = np.random.default_rng(7)
    n = np.arange(1, 601)
    passed = [
        np.any(
            stats.log_e_below(np.cumsum(rng.random((250, 600)) < 0.05, axis=1), n, 0.05)
            >= math.log(20),
            axis=1,
        )
        for _ in range(20)
    ]
    assert 0.01 < np.mean(passed) < 0.05
