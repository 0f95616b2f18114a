"""Assumptions taken from a run that was made: how long its answers were, how many rows it accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.engine.estimate.assumptions import Assumptions
from nexa_core.engine.plan import Plan
from nexa_core.pipeline import CheckStep, CriticStep
from nexa_core.records import State
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest

__all__ = ["measure_run"]

_DECIDED = (State.ACCEPTED, State.SURPLUS, State.REJECTED)


def measure_run(run: Run, plan: Plan, assumed: Assumptions) -> Assumptions:
    """The assumptions, with what a run measured in place of what nobody has set.

    Answers count by step id, over every call that was answered; acceptance is that of first
    attempts, over every unit of the run. A run without one shard changes nothing.
    """
    states = _count_states(run)
    decided = sum(states[state] for state in _DECIDED)
    accepted = states[State.ACCEPTED] + states[State.SURPLUS]
    if decided and accepted and "acceptance" not in assumed.given:
        measured = assumed.measured | {"acceptance"}
        assumed = replace(assumed, acceptance=accepted / decided, measured=measured)
    lengths = _mean_lengths(run)
    for step in plan.pipeline.steps:
        name = f"{step.id}.tokens"
        asks = not isinstance(step, CheckStep | CriticStep)
        if asks and lengths.get(step.id) and name not in assumed.given:
            tokens = {**assumed.tokens, step.id: max(1, round(lengths[step.id]))}
            assumed = replace(assumed, tokens=tokens, measured=assumed.measured | {name})
    return assumed


def _files(run: Run, ending: str) -> Iterator[Path]:
    for folder in run.shard_folders():
        for entry in read_manifest(folder.path):
            path = folder.shards / f"{entry.shard:05d}{ending}"
            if path.is_file():
                yield path


def _count_states(run: Run) -> Counter[str]:
    states: Counter[str] = Counter()
    for path in _files(run, ".parquet"):
        table = pq.read_table(path, columns=["state", "attempt"])
        first = table.filter(pc.equal(table["attempt"], 0))
        for each in first["state"].value_counts().to_pylist():
            states[each["values"]] += each["counts"]
    return states


def _mean_lengths(run: Run) -> dict[str, float]:
    """Mean tokens of an answer, by step."""
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    wanted = [("completion_tokens", "sum"), ("completion_tokens", "count")]
    for path in _files(run, ".calls.parquet"):
        table = pq.read_table(path, columns=["step", "error", "completion_tokens"])
        answered = table.filter(pc.is_null(table["error"]))
        rows: list[dict[str, Any]] = answered.group_by("step").aggregate(wanted).to_pylist()
        for row in rows:
            sums[row["step"]] += row["completion_tokens_sum"] or 0
            counts[row["step"]] += row["completion_tokens_count"]
    return {step: sums[step] / n for step, n in counts.items() if n}
