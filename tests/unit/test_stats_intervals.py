"""The interval of a mean, against another implementation and by its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.stats import student


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=40), st.floats(0.5, 0.99))
def test_it_is_students_test(values: list[float], confidence: float) -> None:
    """Bounds and p as SciPy's one-sample t test has them."""
    from scipy.stats import ttest_1samp  # every worker imports this module, few run it

    deviation = float(np.std(values, ddof=1))
    if deviation < 1e-6:
        return
    told = ttest_1samp(values, 0.0)
    low, high = told.confidence_interval(confidence)
    found = student(len(values), float(np.mean(values)), deviation, confidence)
    assert found == pytest.approx((low, high, told.pvalue), rel=1e-6, abs=1e-9)


def test_it_covers_as_often_as_it_says() -> None:
    """Of 2,000 samples of ten, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(1)
    samples = rng.normal(3.0, 2.0, (2000, 10))
    held = [
        found.low <= 3.0 <= found.high
        for found in (student(10, s.mean(), s.std(ddof=1)) for s in samples)
    ]
    assert 0.935 <= np.mean(held) <= 0.965


def test_too_little_bounds_nothing() -> None:
    """One row has no spread to speak of; equal rows have none at all."""
    assert student(1, 5.0, 0.0) == (-math.inf, math.inf, 1.0)
    assert student(9, 0.0, 0.0) == (0.0, 0.0, 1.0)
