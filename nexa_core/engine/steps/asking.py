"""What every step that asks a model does: pick the rows under way, render, ask, put the answers back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nexa_core.engine.batch import Batch
from nexa_core.engine.calls import Outcome
from nexa_core.engine.requests import Subject
from nexa_core.engine.sources import as_column
from nexa_core.engine.steps.stream import Stream, in_groups, side_by_side
from nexa_core.engine.tries import Caller
from nexa_core.errors import PromptFileError
from nexa_core.records import State

REMOTE_BATCH = 32
REMOTE_AHEAD = 64
WHOLE_SHARD = 1 << 40


def flow(caller: Caller, batches: Stream, work: Callable[[Batch], Awaitable[Batch]]) -> Stream:
    """Rows through a model step: in groups for a model that answers batches, else many at once.

    A provider's batch endpoint gets the rows of the whole shard.
    """
    if caller.model.batch_size:
        return in_groups(batches, work, caller.model.batch_size)
    if caller.is_batched:
        return in_groups(batches, work, WHOLE_SHARD)
    return side_by_side(batches, work, REMOTE_AHEAD)


def rows_of(batch: Batch, indices: np.ndarray) -> list[dict[str, Any]]:
    """The columns of the rows at `indices`, as mappings."""
    return batch.table.take(pa.array(indices)).to_pylist()


def subjects_of(batch: Batch, indices: np.ndarray) -> list[Subject]:
    """Which rows the calls are about."""
    chosen = pa.array(indices)
    columns = (
        batch.table["id"].take(chosen).to_pylist(),
        batch.table["source_id"].take(chosen).to_pylist(),
        batch.sample.take(chosen).to_pylist(),
        batch.attempt.take(chosen).to_pylist(),
    )
    return [Subject(*row) for row in zip(*columns, strict=True)]


def scatter(values: Sequence[Any], indices: np.ndarray, length: int, kind: pa.DataType) -> pa.Array:
    """Values at `indices` of an array of `length`, null elsewhere; the indices ascend."""
    if len(values) == length:
        return pa.array(values, kind)
    full: list[Any] = [None] * length
    for index, value in zip(indices.tolist(), values, strict=True):
        full[index] = value
    return pa.array(full, kind)


def render_rows(
    batch: Batch, step: str, render: Callable[[dict[str, Any]], Any]
) -> tuple[Batch, np.ndarray, list[Any]]:
    """Render every row under way; a row whose prompt does not render fails, its siblings go on.

    Returns the batch, the indices of the rows that rendered, and what each rendered to.
    """
    indices = batch.alive_positions()
    rendered: list[Any] = []
    errors: list[str | None] = []
    for row in rows_of(batch, indices):
        try:
            rendered.append(render(row))
            errors.append(None)
        except PromptFileError as error:
            errors.append(error.problem)
    sound = np.asarray([error is None for error in errors], dtype=bool)
    return fail_rows(batch, step, indices, errors), indices[sound], rendered


def fail_rows(batch: Batch, step: str, indices: np.ndarray, errors: Sequence[str | None]) -> Batch:
    """Settle the rows whose call failed as failed, with the step's name and the reason."""
    if not any(errors):
        return batch
    reasons = [f"{step}: {error}" if error else None for error in errors]
    column = scatter(reasons, indices, len(batch), pa.string())
    return batch.settle(column.is_valid(), State.FAILED, column)


def note_calls(
    batch: Batch, caller: Caller, indices: np.ndarray, outcomes: Sequence[Sequence[Outcome]]
) -> Batch:
    """Put call ids, servers and models beside the rows; of a row's several calls the first answered."""
    ids = [[outcome.call_id for outcome in row] for row in outcomes]
    first = [next((o for o in row if o.reply), None) for row in outcomes]
    served = [None if o is None else o.reply.served_by for o in first]
    models = [None if o is None else o.model for o in first]
    length = len(batch)
    return batch.with_calls(
        caller.step,
        scatter(ids, indices, length, pa.list_(pa.string())),
        scatter(served, indices, length, pa.string()),
        scatter(models, indices, length, pa.string()),
    )


def draw_columns(
    vary: Mapping[str, Sequence[Any]], seed: int, subjects: Sequence[Subject]
) -> dict[str, list[Any]]:
    """One value a row for each varied column, drawn by the run's seed and the row's identity.

    The values are those of `as_column`: alike, whichever of them a batch happens to draw.
    """
    drawn: dict[str, list[Any]] = {}
    for name, values in vary_types(vary).items():
        generators = (
            np.random.default_rng([seed, int(s.source_id, 16), s.sample, *name.encode()])
            for s in subjects
        )
        choices = values.to_pylist()
        drawn[name] = [choices[int(rng.integers(len(choices)))] for rng in generators]
    return drawn


def vary_types(vary: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
    """The values to draw from as columns of one type each."""
    return {name: as_column(list(values)) for name, values in vary.items()}
