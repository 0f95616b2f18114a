"""A rate that has risen since an earlier sample: hardly ever seen where none has, soon where one has."""

from __future__ import annotations

import numpy as np
import pytest

from nexa_core import stats


def test_the_bounds_are_those_of_both_samples():
    """Risen means that the two confidence sequences lie further apart than the margin."""
    rise = stats.compare_rates(1, 166, 60, 500, 0.05, 0.01)
    assert rise.before == stats.bounds(1, 166, 0.04)[1]
    assert rise.after == pytest.approx(stats.bounds(60, 500, 0.01)[0])
    assert rise.risen is (rise.after > rise.before + 0.01)


@pytest.mark.parametrize(
    "rate", [0.02, *(pytest.param(r, marks=pytest.mark.slow) for r in (0.0, 0.1, 0.5))]
)
def test_a_stable_rate_hardly_ever_seems_to_rise(rate):
    """40 runs of 113 + 8 × 250 rows at one rate, a look after every shard: at most 5 % alarm."""
    rng = np.random.default_rng(0)
    before = rng.binomial(113, rate, 40).tolist()
    later = rng.binomial(250, rate, (40, 8)).cumsum(axis=1).tolist()
    alarmed = sum(
        any(stats.compare_rates(k0, 113, k, 250 * (i + 1), 0.05).risen for i, k in enumerate(ks))
        for k0, ks in zip(before, later, strict=True)
    )
    assert alarmed <= 2


def test_a_rate_that_jumps_is_seen_soon():
    """From 1 of 166 rows to 12 %: certain within 500 rows; 1 % or 2 % is none."""
    assert stats.compare_rates(1, 166, 60, 500, 0.01, 0.01).risen
    assert not stats.compare_rates(1, 166, 10, 500, 0.01, 0.01).risen


def test_less_than_the_margin_never_counts():
    """A rise by under the margin is none, whatever the number of rows."""
    assert stats.compare_rates(20_000, 1_000_000, 36_000, 1_000_000, 0.01).risen
    assert not stats.compare_rates(20_000, 1_000_000, 36_000, 1_000_000, 0.01, 0.02).risen


def test_no_rows_show_nothing():
    """Before the first row of either sample nothing can have risen."""
    assert not stats.compare_rates(0, 0, 9, 9, 0.05).risen
    assert not stats.compare_rates(0, 100, 0, 0, 0.05).risen
