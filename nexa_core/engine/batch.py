"""Rows under way: a table of columns with each row's state, scores, flags and calls beside it.

Everything is kept as Arrow arrays of one length, so that a check over a million rows stays one
pass in Arrow. A batch is a value: every operation returns a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.records import ScoreColumns, State

STRING = pa.string()
FLOAT = pa.float64()


@dataclass(frozen=True)
class Batch:
    """Rows in order. `state` is null for a row still under way; `positions` count from the shard's start.

    `scores` and `flags` map a check's or judge's id to one float64 or bool per row, null where it
    did not look. `calls` maps a step's id to one list of call ids per row, `served` and `answered` to
    who served them and to the model that answered.
    """

    table: pa.Table
    state: pa.Array
    reason: pa.Array
    sample: pa.Array
    attempt: pa.Array
    parent: pa.Array
    scores: Mapping[str, pa.Array] = field(default_factory=dict)
    flags: Mapping[str, pa.Array] = field(default_factory=dict)
    calls: Mapping[str, pa.Array] = field(default_factory=dict)
    served: Mapping[str, pa.Array] = field(default_factory=dict)
    answered: Mapping[str, pa.Array] = field(default_factory=dict)

    @classmethod
    def start(cls, table: pa.Table, failures: Mapping[int, str] | None = None) -> Batch:
        """Fresh rows; `failures` names rows that could not be read, by position, with the reason."""
        rows = table.num_rows
        reasons: list[str | None] = [None] * rows
        for position, reason in (failures or {}).items():
            reasons[position] = reason
        reason = pa.array(reasons, STRING)
        state = pc.if_else(
            pc.is_valid(reason), pa.scalar(State.FAILED.value), pa.scalar(None, STRING)
        )
        zeros = pa.array(np.zeros(rows, dtype=np.int32))
        return cls(table, state, reason, zeros, zeros, pa.nulls(rows, STRING))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def alive(self) -> pa.Array:
        """True for each row still under way."""
        return self.state.is_null()

    def alive_positions(self) -> np.ndarray:
        """The indices of the rows still under way."""
        return np.flatnonzero(self.alive.to_numpy(zero_copy_only=False))

    def take(self, indices: np.ndarray) -> Batch:
        """The rows at `indices`, in that order."""
        chosen = pa.array(indices)
        return replace(
            self,
            table=self.table.take(chosen),
            **{name: getattr(self, name).take(chosen) for name in _ARRAYS},
            **{name: _each(getattr(self, name), lambda a: a.take(chosen)) for name in MAPS},
        )

    def slice(self, start: int, length: int) -> Batch:
        """`length` rows from `start` on, without a copy."""
        return replace(
            self,
            table=self.table.slice(start, length),
            **{name: getattr(self, name).slice(start, length) for name in _ARRAYS},
            **{name: _each(getattr(self, name), lambda a: a.slice(start, length)) for name in MAPS},
        )

    def with_column(self, name: str, values: pa.Array) -> Batch:
        """The rows with column `name` set."""
        if name in self.table.column_names:
            at = self.table.column_names.index(name)
            return replace(self, table=self.table.set_column(at, name, values))
        return replace(self, table=self.table.append_column(name, values))

    def with_calls(
        self, step: str, call_ids: pa.Array, served_by: pa.Array, models: pa.Array
    ) -> Batch:
        """The rows with a step's call ids, who served them, and the model that answered."""
        return replace(
            self,
            calls={**self.calls, step: call_ids},
            served={**self.served, step: served_by},
            answered={**self.answered, step: models},
        )

    def with_score(self, name: str, values: pa.Array) -> Batch:
        """The rows with a score; earlier values stay where `values` is null."""
        if name in self.scores:
            values = pc.coalesce(values, self.scores[name])
        return replace(self, scores={**self.scores, name: values})

    def with_flag(self, name: str, mask: pa.Array) -> Batch:
        """The rows with a flag where `mask` is true."""
        return replace(self, flags={**self.flags, name: pc.fill_null(mask, False)})

    def settle(self, mask: pa.Array, state: State, reasons: pa.Array | str) -> Batch:
        """Give the rows under way where `mask` is true their final state and reason."""
        if not mask.true_count:
            return self
        mask = pc.and_(pc.fill_null(mask, False) if mask.null_count else mask, self.alive)
        reason = pa.scalar(reasons) if isinstance(reasons, str) else reasons
        return replace(
            self,
            state=pc.if_else(mask, pa.scalar(state.value), self.state),
            reason=pc.if_else(mask, reason, self.reason),
        )

    def accept(self) -> Batch:
        """Accept every row still under way."""
        return replace(self, state=pc.fill_null(self.state, State.ACCEPTED.value))

    def apply_check(self, name: str, found: ScoreColumns, on_fail: str) -> Batch:
        """Record what a check found, and reject or flag the rows that do not pass."""
        scored = self.with_score(name, found.values)
        if on_fail == "flag":
            return scored.with_flag(name, found.failed)
        if found.reasons is None or not found.failed.true_count:
            return scored.settle(found.failed, State.REJECTED, name)
        detailed = pc.binary_join_element_wise(pa.scalar(name), found.reasons, ": ")
        return scored.settle(found.failed, State.REJECTED, pc.coalesce(detailed, pa.scalar(name)))


_ARRAYS = ("state", "reason", "sample", "attempt", "parent")
MAPS = ("scores", "flags", "calls", "served", "answered")


def _each(arrays: Mapping[str, pa.Array], change: object) -> dict[str, pa.Array]:
    return {name: change(array) for name, array in arrays.items()}  # type: ignore[operator]


def concat(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches, one after the other; columns absent from one are null there."""
    if len(batches) == 1:
        return batches[0]
    table = pa.concat_tables([b.table for b in batches], promote_options="permissive")
    merged = {name: _join([getattr(b, name) for b in batches]) for name in _ARRAYS}
    maps = {name: _join_maps([getattr(b, name) for b in batches], batches) for name in MAPS}
    return Batch(table.combine_chunks(), **merged, **maps)


def _join(arrays: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array:
    chunks = [
        chunk
        for array in arrays
        for chunk in (array.chunks if isinstance(array, pa.ChunkedArray) else [array])
    ]
    return pa.concat_arrays(chunks)


def _join_maps(
    maps: Sequence[Mapping[str, pa.Array]], batches: Sequence[Batch]
) -> dict[str, pa.Array]:
    names = list(dict.fromkeys(name for each in maps for name in each))
    types = {name: next(m[name].type for m in maps if name in m) for name in names}
    return {
        name: _join(
            m[name] if name in m else pa.nulls(len(b), types[name])
            for m, b in zip(maps, batches, strict=True)
        )
        for name in names
    }
