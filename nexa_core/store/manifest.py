"""The manifest of an iteration or of scale: a line per committed shard, the truth on data.

Lines are only ever appended. A shard whose files went bad is retracted by a line of its own, after
which it may be committed again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_core.errors import ManifestError, Place
from nexa_core.store.failpoints import failpoint
from nexa_core.store.files import append_line, disk_errors, read_lines

__all__ = [
    "MANIFEST",
    "ShardEntry",
    "Totals",
    "append_entry",
    "count_retried",
    "merge_tallies",
    "read_forfeits",
    "read_manifest",
    "retract_entry",
    "total_entries",
]

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One committed shard: its rows by state, files by SHA-256, calls, money and metric tallies."""

    unit: str
    """The shard's name within the run, as in `iterations/01/00000`."""
    shard: int
    rows: Mapping[str, int]
    files: Mapping[str, str]
    content_hash: str
    reasons: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    cost_nano: Mapping[str, int] = field(default_factory=dict)
    """Nano-dollars paid, by role."""
    at_risk_nano: Mapping[str, int] = field(default_factory=dict)
    """Nano-dollars that may have been paid, by role: for requests whose reply was lost."""
    served: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Replies by role and by who served them."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source_rows: int = 0
    seconds: float = 0.0
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of many entries; `metrics` holds one merged tally by metric name."""

    shards: int
    rows: dict[str, int]
    reasons: dict[str, int]
    calls: dict[str, int]
    cost_nano: dict[str, int]
    at_risk_nano: dict[str, int]
    served: dict[str, dict[str, int]]
    metrics: dict[str, dict[str, Any]]
    source_rows: int
    seconds: float


def count_retried(totals: Totals, pipeline: Mapping[str, Any]) -> int:
    """Rejected rows that were tried again, of a pipeline as run.json has it; 0 where that cannot be told.

    `failed_rate` counts every row but those, of the first sample: with several samples nobody can tell.
    """
    steps = (body for step in pipeline.get("steps", ()) for body in step.values())
    several = any(isinstance(body, dict) and body.get("samples", 1) > 1 for body in steps)
    counted = totals.metrics.get("failed_rate")
    if several or counted is None or not (pipeline.get("accept") or {}).get("retry"):
        return 0
    return sum(totals.rows.values()) - int(counted["n"])


def append_entry(folder: Path, entry: ShardEntry) -> None:
    """Append a shard's line durably: from here on the shard is committed.

    Raises:
        DiskFullError, ManifestError: the line could not be made durable.
    """
    failpoint("manifest-before-append")
    with disk_errors(folder / MANIFEST, ManifestError):
        append_line(folder / MANIFEST, {f.name: getattr(entry, f.name) for f in fields(entry)})
    failpoint("manifest-after-append")


def retract_entry(
    folder: Path, entry: ShardEntry, reason: str, forfeit: Mapping[str, int] | None = None
) -> None:
    """Take a shard back whose files went bad, so that it can be done and committed again.

    `forfeit` is what was paid for calls that are lost with it, in nano-dollars by role.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"unit": entry.unit, "shard": entry.shard, "retracted": reason, "at": at}
    if forfeit:
        line["forfeit_nano"] = dict(forfeit)
    with disk_errors(folder / MANIFEST, ManifestError):
        append_line(folder / MANIFEST, line)


def read_manifest(folder: Path) -> list[ShardEntry]:
    """The committed shards in shard order; of two lines for one shard the first counts.

    A torn last line was never acknowledged and is left out. No manifest means no shards.

    Raises:
        ManifestError: a complete line cannot be read.
    """
    path = folder / MANIFEST
    entries: dict[int, ShardEntry] = {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            value = json.loads(line)
            if "retracted" in value:
                entries.pop(value["shard"], None)
            else:
                entries.setdefault(value["shard"], ShardEntry(**value))
        except (ValueError, TypeError, KeyError) as cause:
            problem = f"Line {number} of the manifest is no committed shard: {cause}."
            fix = "Restore the file from a copy, or delete the line: its shard is then redone."
            raise ManifestError(problem, fix, Place(str(path), number)) from cause
    return [entries[shard] for shard in sorted(entries)]


def read_forfeits(folder: Path) -> Counter[str]:
    """Nano-dollars by role that were paid for calls of shards since retracted, and lost."""
    lines = (json.loads(line) for line in read_lines(folder / MANIFEST) if b"forfeit_nano" in line)
    total: Counter[str] = Counter()
    for line in lines:
        total.update(line.get("forfeit_nano", {}))
    return total


def total_entries(entries: Iterable[ShardEntry]) -> Totals:
    """Sum entries in the order given; float tallies depend on that order in the last digits."""
    shards, source_rows, seconds = 0, 0, 0.0
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("rows", "reasons", "calls", "cost_nano", "at_risk_nano")
    }
    metrics: dict[str, dict[str, Any]] = {}
    served: dict[str, Counter[str]] = {}
    for entry in entries:
        shards, source_rows = shards + 1, source_rows + entry.source_rows
        seconds += entry.seconds
        for name, counter in counts.items():
            counter.update(getattr(entry, name))
        for role, servers in entry.served.items():
            served.setdefault(role, Counter()).update(servers)
        for name, tally in entry.metrics.items():
            metrics[name] = merge_tallies(metrics.get(name), tally)
    plain = {name: dict(counter) for name, counter in counts.items()}
    return Totals(
        shards=shards,
        served={role: dict(servers.most_common()) for role, servers in served.items()},
        metrics=metrics,
        source_rows=source_rows,
        seconds=seconds,
        **plain,
    )


def merge_tallies(a: Mapping[str, Any] | None, b: Mapping[str, Any]) -> dict[str, Any]:
    """Two tallies of one metric as one: numbers add up, histograms by value.

    A tally is {"n", "k"} of a rate, {"n", "histogram"} of a median or {"n", "total"} of a mean.
    """
    if a is None:
        return dict(b)
    merged = dict(a)
    for key, value in b.items():
        if isinstance(value, Mapping):
            merged[key] = dict(Counter(merged.get(key, {})) + Counter(value))
        else:
            merged[key] = merged.get(key, 0) + value
    return merged
