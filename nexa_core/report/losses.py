"""Why rows were lost, rejected ones apart from failed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexa_core.records import State, name_reason
from nexa_core.report.folder import Facts
from nexa_core.store.manifest import ShardEntry

__all__ = ["Losses", "count_losses"]

UNKNOWN = "reason not known"


@dataclass(frozen=True)
class Losses:
    """Rows lost, by reason; the rows that were rejected and those that failed."""

    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def count_losses(facts: Facts) -> Losses:
    """The losses among the rows that count; they add up to the manifest's rows by state.

    A manifest counts reasons of rejected and failed rows together, so that a shard which has both
    is asked itself: two of its columns.
    """
    losses = Losses()
    for unit in facts.kept:
        for entry in unit.entries:
            _add(losses, entry, unit.folder.shards / f"{entry.shard:05d}.parquet")
    return losses


def _add(losses: Losses, entry: ShardEntry, path: Path) -> None:
    found: Mapping[State, Counter[str]] = {
        State.REJECTED: Counter(entry.reasons),
        State.FAILED: Counter(),
    }
    if entry.rows.get(State.FAILED):
        found = _count(path)
    for state, total in ((State.REJECTED, losses.rejected), (State.FAILED, losses.failed)):
        total.update(found[state])
        missing = entry.rows.get(state, 0) - found[state].total()
        if missing > 0:
            total[UNKNOWN] += missing


def _count(path: Path) -> Mapping[State, Counter[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[State, Counter[str]] = {State.REJECTED: Counter(), State.FAILED: Counter()}
    try:
        table = pq.ParquetFile(path).read(["state", "reason"])
        groups = table.group_by(["state", "reason"]).aggregate([([], "count_all")]).to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return found
    for group in groups:
        if group["state"] in found:
            found[State(group["state"])][name_reason(group["reason"] or UNKNOWN)] += group[
                "count_all"
            ]
    return found
