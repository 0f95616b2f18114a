"""The check step: deterministic scores of every row under way, rejecting or flagging what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.batch import Batch
from nexa_core.engine.steps.stream import Stream, one_by_one
from nexa_core.errors import CheckError, boundary
from nexa_core.protocols import Check
from nexa_core.records import ScoreColumns


@dataclass(frozen=True)
class NamedCheck:
    """A row check as the pipeline uses it."""

    id: str
    check: Check
    on_fail: str = "reject"
    waits: bool = False


@dataclass
class CheckRows:
    """Applies several row checks; each sees every row that came in alive, the first to fail is the reason."""

    id: str
    checks: Sequence[NamedCheck]

    def run(self, batches: Stream) -> Stream:
        return one_by_one(batches, self._check)

    async def _check(self, batch: Batch) -> Batch:
        alive = batch.alive
        everyone = alive.true_count == len(batch)
        table = batch.table if everyone else batch.table.filter(alive)
        for named in self.checks:
            with boundary(CheckError, f"The check '{named.id}'"):
                found = one_piece(await _score(named, table))
            if not everyone:
                found = _spread(found, alive)
            batch = batch.apply_check(named.id, found, named.on_fail)
        return batch


async def _score(named: NamedCheck, table: pa.Table) -> ScoreColumns:
    if named.waits:
        return await asyncio.to_thread(named.check.score, table)
    return named.check.score(table)


def one_piece(found: ScoreColumns) -> ScoreColumns:
    """The same columns, each as one array of the expected type."""
    return replace(
        found,
        values=_typed(_whole(found.values), pa.float64()),
        failed=_typed(_whole(found.failed), pa.bool_()),
        reasons=None if found.reasons is None else _whole(found.reasons),
    )


def _typed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _spread(found: ScoreColumns, mask: pa.Array) -> ScoreColumns:
    """The scores of the rows where `mask` is true, at their places among all rows."""

    def place(values: pa.Array) -> pa.Array:
        return pc.replace_with_mask(pa.nulls(len(mask), values.type), mask, values)

    reasons = None if found.reasons is None else place(found.reasons)
    return ScoreColumns(place(found.values), place(found.failed), reasons)
