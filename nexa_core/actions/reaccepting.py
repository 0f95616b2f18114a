"""A run's rows decided again by another accept rule, from stored scores and flags, with no call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.actions.reviewing import dataset_folders
from nexa_core.engine.batch import Batch
from nexa_core.engine.steps.accepting import AcceptRule, accept_rows, accept_rule_of
from nexa_core.engine.thresholds import is_flagged, number_questions
from nexa_core.errors import UsageError
from nexa_core.pipeline import CheckStep, Pipeline, from_resolved, pipeline_from
from nexa_core.records import FLAGGED, State, name_reason
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import open_run
from nexa_core.store.shards import read_shard
from nexa_core.workspace import Workspace

__all__ = ["NOT_MADE", "Redecided", "decide_again", "later_checks", "reaccept"]

NOT_MADE = "not made"
"""What a second attempt is where the rule would have taken the first: the run would not have asked."""


def reaccept(run: str, sets: Sequence[str], *, workspace: Workspace) -> dict[str, Any]:
    """Decide a run's rows again under another accept rule, from what is stored and with no call.

    Of several attempts the first that passes counts, and later ones are `not made`. What only calls or
    checks could tell is counted apart: `would_need` by score, the rows that the rule cannot decide
    without it; `would_retry`, the rows that it rejects and that would be tried again; `unchecked` by
    check, the rows that it accepts and the check has not seen, as they were rejected before it.
    """
    found = open_run(workspace.artifacts_path, run)
    pipeline = _with_accept(from_resolved(found.record["pipeline"]), sets)
    rule, later = accept_rule_of(pipeline), later_checks(pipeline)
    retry = pipeline.accept.retry if pipeline.accept else None
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("before", "after", "reasons", "needs", "unchecked")
    }
    retried = 0
    for folder in dataset_folders(found, workspace):
        for entry in read_manifest(folder.path):
            table = read_shard(folder.shards / f"{entry.shard:05d}.parquet")
            again = decide_again(table, rule, pipeline.score_ids)
            counts["before"].update(table["state"].to_pylist())
            counts["after"].update(again.state.to_pylist())
            reasons = again.reason.drop_null().to_pylist()
            counts["reasons"].update(map(name_reason, reasons))
            counts["needs"].update(again.missing)
            counts["unchecked"].update(_count_unchecked(table, again.state, later))
            retried += _count_retried(table, again.state, retry.attempts) if retry else 0
    return {
        "run": found.id,
        "sets": list(sets),
        "rows_before": dict(counts["before"]),
        "rows_after": dict(counts["after"]),
        "by_reason": dict(counts["reasons"].most_common()),
        "would_need": dict(counts["needs"]),
        "would_retry": retried,
        "unchecked": dict(counts["unchecked"]),
    }


def later_checks(pipeline: Pipeline) -> tuple[str, ...]:
    """The checks after the first score that accept asks for: a row that it rejects never reaches them."""
    asked = {name for term in accept_rule_of(pipeline).terms for name in term.scores}
    own = [[u.id for u in s.checks] if isinstance(s, CheckStep) else [s.id] for s in pipeline.steps]
    first = next((at for at, names in enumerate(own) if asked & set(names)), len(own))
    steps = pipeline.steps[first + 1 :]
    return tuple(use.id for step in steps if isinstance(step, CheckStep) for use in step.checks)


@dataclass(frozen=True)
class Redecided:
    """Each row's state and reason by the other rule; `missing` counts rows by the score they lack."""

    state: pa.Array
    reason: pa.Array
    missing: dict[str, int]


def decide_again(table: pa.Table, rule: AcceptRule, score_ids: Sequence[str]) -> Redecided:
    """Rows settled anew by a rule, from their stored scores and flags.

    Rows that failed, and rows that a check rejected, stay as they are.
    """
    batch = Batch.start(table)
    scores = _one(table["scores"]) if "scores" in table.column_names else None
    for name in score_ids if scores is not None else ():
        batch = batch.with_score(name, pc.struct_field(scores, name))
    state, reason = _one(table["state"]), _one(table["reason"])
    ours = [term.name for term in rule.terms]
    decidable = pc.or_(
        pc.is_in(state, value_set=pa.array([State.ACCEPTED.value, State.SURPLUS.value])),
        pc.or_(
            pc.is_in(reason, value_set=pa.array([*ours, "unscored"])),
            pc.fill_null(pc.starts_with(reason, FLAGGED), False),
        ),
    )
    for name in _list_flags(table):
        batch = batch.with_flag(name, is_flagged(table, name))
    batch = batch.settle(pc.invert(decidable), State.REJECTED, reason)
    failed = pc.equal(state, State.FAILED.value)
    batch = replace(batch, state=pc.if_else(failed, pa.scalar(State.FAILED.value), batch.state))
    missing = _missing(batch, rule)
    return _leave_out_later(table, accept_rows(batch, rule), missing)


def _leave_out_later(table: pa.Table, batch: Batch, missing: dict[str, int]) -> Redecided:
    """Attempts after the first that is accepted, per question and sample, were never made."""
    accepted = pc.equal(batch.state, State.ACCEPTED.value).to_numpy(zero_copy_only=False)
    question, attempt = number_questions(table)
    first = np.full(question.max(initial=-1) + 1, np.iinfo(np.int32).max)
    np.minimum.at(first, question[accepted], attempt[accepted])
    later = pa.array(attempt > first[question])
    return Redecided(
        pc.if_else(later, pa.scalar(NOT_MADE), batch.state),
        pc.if_else(later, pa.scalar(None, pa.string()), batch.reason),
        missing,
    )


def _count_unchecked(table: pa.Table, state: pa.Array, later: Sequence[str]) -> dict[str, int]:
    """For each later check, the rows that are accepted only now and that it has no score of."""
    fresh = pc.and_(
        pc.equal(state, State.ACCEPTED.value), pc.equal(table["state"], State.REJECTED.value)
    )
    counts = {}
    for name in later:
        unseen = pc.and_(fresh, pc.is_null(pc.struct_field(table["scores"], name)))
        if found := pc.sum(unseen).as_py():
            counts[name] = found
    return counts


def _count_retried(table: pa.Table, state: pa.Array, attempts: int) -> int:
    """Rows rejected only now that have an attempt left: the run would have asked again."""
    if "attempt" not in table.column_names:
        return 0
    kept = pa.array([State.ACCEPTED.value, State.SURPLUS.value])
    lost = pc.and_(pc.equal(state, State.REJECTED.value), pc.is_in(table["state"], value_set=kept))
    return pc.sum(pc.and_(lost, pc.less(table["attempt"], attempts))).as_py() or 0


def _with_accept(pipeline: Pipeline, sets: Sequence[str]) -> Pipeline:
    for each in sets:
        if not each.startswith("accept."):
            raise UsageError(
                f"'{each}' does not set the accept rule.",
                "Only --set accept.… can be decided again without a call.",
            )
    return pipeline_from(pipeline.resolved(), sets)


def _missing(batch: Batch, rule: AcceptRule) -> dict[str, int]:
    """For each score, the rows that pass every earlier term and lack it."""
    open_rows = batch.alive
    missing: dict[str, int] = {}
    for term in rule.terms:
        for name in term.scores:
            if name in batch.scores:
                absent = pc.and_(open_rows, batch.scores[name].is_null())
                if absent.true_count:
                    missing[name] = absent.true_count
        passes = pc.fill_null(term.passes(batch.scores), False)
        open_rows = pc.and_(open_rows, passes)
    return missing


def _list_flags(table: pa.Table) -> list[str]:
    """Every flag that a row of the table has, by name."""
    if "flags" not in table.column_names or pa.types.is_null(table["flags"].type.value_type):
        return []
    return sorted(pc.unique(pc.list_flatten(table["flags"])).to_pylist())


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column
