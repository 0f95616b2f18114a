"""How many different texts a sample of another size holds."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from nexa_core import stats


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_smaller_sample_is_exact(rows):
    """The mean over every subset of six rows, counted out."""
    texts = ["a", "a", "a", "b", "b", "c"]
    every = [len({*chosen}) for chosen in itertools.combinations(texts, rows)]
    expected = stats.expected_distinct(list(Counter(texts).values()), rows)
    assert expected == pytest.approx(np.mean(every))


@pytest.mark.parametrize("weights", [np.ones(500), 1 / np.arange(1, 1501) ** 0.7])
def test_a_larger_sample_is_foretold(weights):
    """Even and Zipf-like texts: from 600 rows to 1,500, within a tenth of what 20 samples have."""
    rng, share = np.random.default_rng(1), weights / weights.sum()
    foretold, found = [], []
    for _ in range(20):
        drawn = rng.choice(len(share), 1500, p=share)
        counts = np.unique(drawn[:600], return_counts=True)[1]
        foretold.append(stats.expected_distinct(counts.tolist(), 1500))
        found.append(len(np.unique(drawn)))
    assert np.mean(foretold) == pytest.approx(np.mean(found), rel=0.1)


def test_what_never_repeats_and_what_only_repeats():
    """All rows alike: nothing new comes. None alike: next to none will repeat soon."""
    assert stats.expected_distinct([100], 1000) == pytest.approx(1)
    assert stats.expected_duplicates([100], 1000) == pytest.approx(999)
    assert stats.expected_duplicates([1] * 100, 200) < 3
    assert stats.expected_distinct([], 10) == 0
    assert stats.expected_distinct([2, 1], 3) == pytest.approx(2)
