"""One shard: source rows through every step, then settled, as a table that can be committed.

A shard is a pure function of the plan, its source rows, the seed and the replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.batch import MAPS, Batch, concat
from nexa_core.engine.calls import Calls
from nexa_core.engine.dispatch import DEFAULT_CONCURRENCY
from nexa_core.engine.plan import Plan
from nexa_core.engine.sources import SourceRow, rows_table
from nexa_core.engine.stages import build_stages
from nexa_core.engine.steps.accepting import accept_rows
from nexa_core.engine.steps.stream import Step, slices
from nexa_core.pipeline import roles_of
from nexa_core.records import State

MICRO_BATCH, LEAST_TOGETHER = 64, 4
REJECTION = "rejection"
"""The column that tells a retry's prompt why the row was rejected."""

_STEP_TYPE = pa.struct(
    [
        ("step", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("served_by", pa.string()),
        ("prompt", pa.string()),
        ("prompt_hash", pa.string()),
        ("call_ids", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardOrder:
    """Which rows to take through the plan, and where the result belongs."""

    run: str
    unit: str
    """The folder of the unit within the run: `iterations/01` or `scale`."""
    index: int
    rows: Sequence[SourceRow]

    @property
    def name(self) -> str:
        """The shard's file name without ending."""
        return f"{self.index:05d}"

    @property
    def iteration(self) -> int:
        """The iteration, counted from 1; 0 for a shard of scale."""
        number = self.unit.partition("/")[2]
        return int(number) if number else 0


async def run_steps(
    plan: Plan,
    order: ShardOrder,
    calls: Calls,
    on_progress: Callable[[str, int], None] = lambda step, rows: None,
    on_settled: Callable[[Batch], None] = lambda batch: None,
) -> Batch:
    """Every row of the order, settled as accepted, rejected or failed; set checks still to be folded.

    `on_progress` is told of rows that have passed a step, `on_settled` of rows that have passed all.
    """
    failures = {n: row.error for n, row in enumerate(order.rows) if row.error is not None}
    fresh = Batch.start(rows_table(order.rows), failures)
    steps = build_stages(plan, calls)
    done = [await _through(plan, steps, fresh, on_progress, on_settled)]
    if plan.retry is not None:
        for attempt in range(1, plan.retry.attempts + 1):
            again = _retried(plan, done[-1], attempt)
            if again is None:
                break
            steps = build_stages(plan, calls, retry=True)
            done.append(await _through(plan, steps, again, on_progress, on_settled))
    return concat(done)


async def _through(
    plan: Plan,
    steps: Sequence[Step],
    batch: Batch,
    on_progress: Callable[[str, int], None],
    on_settled: Callable[[Batch], None],
) -> Batch:
    size = micro_batch(plan) if plan.asks_models else max(1, len(batch))
    stream = slices(batch, size)
    for step in steps:
        stream = _watched(step.run(stream), step.id, on_progress)
    settled: list[Batch] = []
    async for rows in stream:
        settled.append(accept_rows(rows, plan.accept_rule))
        on_settled(settled[-1])
    return concat(settled) if settled else batch


def micro_batch(plan: Plan) -> int:
    """The rows that travel together: a quarter of what the narrowest endpoint answers at once, at most 64.

    A stage has nothing to do until the first of them come, and each later stage waits once more: rows
    that travel in numbers over the concurrency would make every judge a barrier.
    """
    roles = {role for step in plan.pipeline.steps for role in roles_of(step)}
    widths = [plan.pipeline.models[role].concurrency or DEFAULT_CONCURRENCY for role in roles]
    return max(LEAST_TOGETHER, min(MICRO_BATCH, min(widths, default=MICRO_BATCH) // 4))


async def _watched(stream: Any, step: str, on_progress: Callable[[str, int], None]) -> Any:
    async for batch in stream:
        on_progress(step, len(batch))
        yield batch


def _retried(plan: Plan, settled: Batch, attempt: int) -> Batch | None:
    """The rejected rows of the last pass as new rows, with the columns they had before the retry step."""
    assert plan.retry is not None
    answered = settled.calls.get(plan.retry.step)
    if answered is None:
        return None
    # Whatever was rejected before that step stays rejected: its check is not run again.
    mask = pc.and_(pc.equal(settled.state, State.REJECTED.value), answered.is_valid())
    indices = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    if not len(indices):
        return None
    again = settled.take(indices)
    later = plan.columns_from(plan.retry.step) | {REJECTION}
    kept = [n for n in again.table.column_names if n not in later]
    parents = again.table["id"].combine_chunks()
    stems = [p.removesuffix(f"~r{attempt - 1}") for p in parents.to_pylist()]
    table = again.table.select(kept)
    at = table.column_names.index("id")
    table = table.set_column(at, "id", pa.array([f"{stem}~r{attempt}" for stem in stems]))
    table = table.append_column(REJECTION, pa.array(_quote_rejections(plan, again)))
    before = plan.scores_before(plan.retry.step)

    def earlier(given: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        return {name: values for name, values in given.items() if name in before}

    return replace(
        Batch.start(table),
        sample=again.sample,
        attempt=pa.array(np.full(len(indices), attempt, dtype=np.int32)),
        parent=parents if isinstance(parents, pa.Array) else pa.concat_arrays(parents.chunks),
        **{name: earlier(getattr(again, name)) for name in MAPS},
    )


def _quote_rejections(plan: Plan, rejected: Batch) -> list[str]:
    """Why each row was rejected, with what the judges said, for the prompt of the retry."""
    judged = [name for name in plan.judge_ids if f"{name}_reason" in rejected.table.column_names]
    columns = [rejected.table[f"{name}_reason"].to_pylist() for name in judged]
    scores = [rejected.scores[name].to_pylist() for name in judged]
    quoted = []
    for n, reason in enumerate(rejected.reason.to_pylist()):
        said = [
            f"{name} {score[n]:.2f}: {column[n]}"
            for name, score, column in zip(judged, scores, columns, strict=True)
            if score[n] is not None and column[n]
        ]
        quoted.append("\n".join([str(reason), *said]))
    return quoted


def finish_table(plan: Plan, order: ShardOrder, batch: Batch) -> pa.Table:
    """The rows as they are stored: own columns after the source's and the steps', provenance last."""
    length = len(batch)
    names = [n for n in batch.table.column_names if n not in ("id", "source_id")]
    columns: dict[str, Any] = {name: batch.table[name] for name in names}
    columns |= {name: batch.table[name] for name in ("id", "source_id")}
    columns |= {"sample": batch.sample, "attempt": batch.attempt, "parent_id": batch.parent}
    if plan.score_ids:
        columns["scores"] = _scores(plan.score_ids, batch)
    columns["flags"] = _flags(batch)
    columns |= {"state": batch.state, "reason": batch.reason}
    columns["provenance"] = _provenance(plan, order, batch, length)
    return pa.table(columns).combine_chunks()


def _scores(score_ids: Sequence[str], batch: Batch) -> pa.Array:
    missing = pa.nulls(len(batch), pa.float64())
    arrays = [batch.scores.get(name, missing) for name in score_ids]
    return pa.StructArray.from_arrays(arrays, names=list(score_ids))


def _flags(batch: Batch) -> pa.Array:
    names = sorted(batch.flags)
    if not names:
        offsets = np.zeros(len(batch) + 1, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array([], pa.string()))
    masks = [pc.fill_null(batch.flags[n], False).to_numpy(zero_copy_only=False) for n in names]
    raised = np.stack(masks, axis=1)
    offsets = np.concatenate([[0], np.cumsum(raised.sum(axis=1))]).astype(np.int32)
    values = np.asarray(names, dtype=object)[np.nonzero(raised)[1]]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.string()))


def _provenance(plan: Plan, order: ShardOrder, batch: Batch, length: int) -> pa.Array:
    def constant(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), length)

    arrays = [
        constant(order.run, pa.string()),
        constant(order.iteration, pa.int32()),
        constant(order.index, pa.int32()),
        constant(plan.code_commit, pa.string()),
        _provenance_steps(plan, batch, length),
    ]
    names = ["run", "iteration", "shard", "code_commit", "steps"]
    return pa.StructArray.from_arrays(arrays, names=names)


def _provenance_steps(plan: Plan, batch: Batch, length: int) -> pa.Array:
    kind = pa.list_(_STEP_TYPE)
    if not batch.calls:
        offsets = pa.array(np.zeros(length + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array([], _STEP_TYPE))
    per_row: list[list[Mapping[str, Any]]] = [[] for _ in range(length)]
    for step in plan.step_origins:
        if step["step"] not in batch.calls:
            continue
        columns = (batch.calls, batch.served, batch.answered)
        noted = (column[step["step"]].to_pylist() for column in columns)
        for row, call_ids, server, model in zip(per_row, *noted, strict=True):
            if call_ids is not None:
                origin = step if model in (None, step["model"]) else plan.stand_in(step, model)
                row.append({**origin, "served_by": server, "call_ids": call_ids})
    return pa.array(per_row, kind)
