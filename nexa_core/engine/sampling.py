"""A few of the rows that a run makes, as they are made: so few and so short that nothing waits for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from nexa_core.engine.batch import Batch
from nexa_core.events import RowsSampled

__all__ = ["SECONDS_APART", "RowSampler", "shorten"]

SECONDS_APART = 1.0
"""Between two samples of a run, however many shards are under way."""
ROWS = 2
"""In a sample: one of the commonest kind, one of another where there is one."""
LONGEST_TEXT = 400
MOST_COLUMNS = 32


class RowSampler:
    """Announces rows just settled, now and then; where it is not yet time it costs a look at the clock.

    It shows different states where there are, because the first rows of every batch are of one kind.
    """

    def __init__(
        self, announce: Callable[[RowsSampled], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._announce, self._clock = announce, clock
        self._due_at = float("-inf")

    def offer(self, unit: str, batch: Batch) -> None:
        """Rows that have taken every step of a shard; `unit` is the shard's name within the run."""
        now = self._clock()
        if now < self._due_at or not len(batch):
            return
        self._due_at = now + SECONDS_APART
        try:
            rows = [_row_at(batch, position) for position in _choose(batch)]
        except (ValueError, OverflowError, pa.ArrowException):
            return  # a value that Python cannot hold, as nanoseconds: what is only shown stops no run
        self._announce(RowsSampled(unit, rows))


def _choose(batch: Batch) -> list[int]:
    """The first row, and the first of another state, else the next."""
    states = batch.state.to_pylist()
    other = next((n for n, state in enumerate(states) if state != states[0]), 1)
    return [0, other][: min(ROWS, len(states))]


def _row_at(batch: Batch, position: int) -> dict[str, Any]:
    """One row as an event shows it: its own facts, then its columns."""
    scores = {name: _value(values, position) for name, values in batch.scores.items()}
    row = {
        "id": None,
        "state": _value(batch.state, position),
        "reason": _value(batch.reason, position),
        "scores": {name: value for name, value in scores.items() if value is not None},
    }
    row |= batch.table.slice(position, 1).to_pylist()[0]
    return dict(list(shorten(row).items())[:MOST_COLUMNS])


def _value(values: pa.Array | pa.ChunkedArray, position: int) -> Any:
    return values[position].as_py()


def shorten(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as events and reviews show it: what is long is cut, and provenance left out."""
    return {name: _cut(value) for name, value in row.items() if name != "provenance"}


def _cut(value: Any) -> Any:
    """A text cut after `LONGEST_TEXT` characters; a nested value as it is, or as the start of its JSON."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
    if isinstance(value, Mapping | list | tuple | bytes):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return value if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return value
