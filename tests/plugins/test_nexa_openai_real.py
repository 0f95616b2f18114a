"""A single-token judge's recorded log-probabilities give the preferences that were published from them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa_core import CallFailed
from nexa_openai.choices import read_choice

DATA = Path(os.environ.get("NEXA_CORE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = DATA / "alpaca_eval" / "claude-2.1.jsonl"
needs_data = pytest.mark.skipif(
    not FILE.is_file(), reason=f"{FILE} is absent: set NEXA_CORE_SHARED_DATA"
)


def records() -> Iterator[dict[str, Any]]:
    with FILE.open() as lines:
        yield from map(json.loads, lines)


@needs_data
def test_recorded_replies_give_the_published_preferences() -> None:
    """803 of 805 to 1e-6, for one of the two sides; the two without a completion give no score."""
    matched, unscored = 0, 0
    for record in records():
        raw = record["raw_completion"]
        body = {"choices": [raw] if raw else []}
        try:
            m, capital = map(math.exp, read_choice(body, ["m", "M"]))
        except CallFailed:
            assert record["preference"] == 1.5
            unscored += 1
            continue
        sides = (1 + m / (m + capital), 1 + capital / (m + capital))
        matched += min(abs(side - record["preference"]) for side in sides) < 1e-6
    assert (matched, unscored) == (803, 2)
