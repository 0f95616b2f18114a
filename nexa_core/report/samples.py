"""A few rows as they are: accepted ones, rejected ones by reason, failed ones; read shard by shard."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_core.records import State, name_reason
from nexa_core.report.figures import show_count, show_number
from nexa_core.report.folder import Facts, UnitFacts
from nexa_core.report.losses import count_losses

__all__ = ["Sample", "SampleGroup", "choose_samples"]

ACCEPTED, REJECTED, FAILED = 4, 2, 2
"""How many rows are shown: accepted, rejected for each reason, failed."""
REASONS = 8
TEXT_LIMIT = 20_000
OWN = frozenset(
    ["id", "source_id", "sample", "attempt", "parent_id", "scores", "flags", "state", "reason"]
) | {"provenance"}
QUIET = ("_finish_reason", "_tokens")


@dataclass(frozen=True)
class Sample:
    """A row: its text columns in full, its other facts as pairs."""

    id: str
    texts: list[tuple[str, str]]
    facts: list[tuple[str, str]]


@dataclass
class SampleGroup:
    """Rows of one kind; `total` of them there are among the rows that count."""

    kind: str
    title: str
    total: int
    wanted: int
    samples: list[Sample] = field(default_factory=list)


def choose_samples(facts: Facts) -> list[SampleGroup]:
    """The first rows of each kind in (unit, shard, row) order; kinds without rows are left out."""
    groups = _plan_groups(facts)
    for unit in reversed(facts.kept):
        for row in _read_rows(unit, groups):
            group = groups.get(_kind(row))
            if group is not None and len(group.samples) < group.wanted:
                group.samples.append(_show_row(row))
    return [group for group in groups.values() if group.samples]


def _plan_groups(facts: Facts) -> dict[str, SampleGroup]:
    totals = facts.totals
    accepted = totals.rows.get(State.ACCEPTED, 0)
    groups = {"accepted": SampleGroup("accepted", "Accepted", accepted, ACCEPTED)}
    for reason, number in count_losses(facts).rejected.most_common(REASONS):
        title = f"Rejected: {reason}"
        groups[f"rejected {reason}"] = SampleGroup("rejected", title, number, REJECTED)
    failed = totals.rows.get(State.FAILED, 0)
    groups["failed"] = SampleGroup("failed", "Failed", failed, FAILED)
    return groups


def _kind(row: Mapping[str, Any]) -> str:
    state = str(row.get("state"))
    if state == State.REJECTED:
        return f"rejected {name_reason(row.get('reason') or 'reason not known')}"
    return state


def _read_rows(unit: UnitFacts, groups: Mapping[str, SampleGroup]) -> Iterator[dict[str, Any]]:
    """Rows of shards that hold a kind still wanted; a shard that cannot be read is passed over."""
    for entry in unit.entries:
        held = {f"rejected {reason}" for reason in entry.reasons}
        held |= {state for state, number in entry.rows.items() if number}
        wanted = {k for k, group in groups.items() if len(group.samples) < group.wanted}
        if held & wanted:
            yield from _pick_rows(unit.folder.shards / f"{entry.shard:05d}.parquet", wanted)


def _pick_rows(path: Path, wanted: set[str]) -> Iterator[dict[str, Any]]:
    """The first few rows of every wanted kind in a shard; only these leave Arrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()  # read_table would import pandas
        states = table["state"].to_pylist()
        reasons = table["reason"].to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return
    taken: Counter[str] = Counter()
    for index, (state, reason) in enumerate(zip(states, reasons, strict=True)):
        kind = _kind({"state": state, "reason": reason})
        if kind in wanted and taken[kind] < ACCEPTED:
            taken[kind] += 1
            yield table.slice(index, 1).to_pylist()[0]


def _show_row(row: Mapping[str, Any]) -> Sample:
    texts, facts = [], []
    for name, value in row.items():
        if name in OWN or value is None or _repeats(name, value, row):
            continue
        if isinstance(value, str) and not name.endswith(QUIET):
            texts.append((name, _cut(value)))
        elif isinstance(value, str | int | float):
            facts.append((name, _show(value)))
        else:
            texts.append((name, _cut(json.dumps(value, ensure_ascii=False, default=str, indent=1))))
    scores = {k: v for k, v in (row.get("scores") or {}).items() if v is not None}
    facts = [(f"score {name}", show_number(value)) for name, value in scores.items()] + facts
    if row.get("flags"):
        facts.append(("flags", ", ".join(map(str, row["flags"]))))
    reason = row.get("reason")
    if reason:
        facts.insert(0, ("reason", _cut(str(reason))))
    return Sample(str(row.get("id", "")), texts, facts)


def _repeats(name: str, value: Any, row: Mapping[str, Any]) -> bool:
    """Whether a text as generated says no more than the text it was trimmed to.

    What follows the stop of an accepted row is of no interest; of a rejected one it may be why.
    """
    trimmed = name.removesuffix("_raw_text")
    if trimmed == name:
        return False
    return row.get("state") == State.ACCEPTED or value == row.get(trimmed)


def _show(value: Any) -> str:
    return show_number(value) if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}\n… ({show_count(len(text))} characters; the rest is in the shard)"
