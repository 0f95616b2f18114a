"""Who says what is lost, twice or asked again: the server's log, the journals of the dead, the shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nexa_core.store.journal import read_journal
from nexa_core.store.layout import Run
from nexa_core.store.manifest import ShardEntry, read_manifest
from nexa_core.store.segments import list_units
from nexa_core.store.shards import read_shard
from nexa_core.testing.chaos import Entry


@dataclass
class Autopsy:
    """What the journals held after each kill: replies that may never be asked for again, and open calls."""

    in_flight: list[int] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    lost: int = 0
    """Journaled replies that a later look at the run did not find."""
    _open_before: set[str] = field(default_factory=set)

    def examine(self, path: Path) -> None:
        """Look at a run whose process is dead."""
        run = Run(path)
        journaled: set[str] = set()
        intents: set[str] = set()
        committed = {f"{e.shard:05d}" for e in read_manifest(run.scale.path)}
        for unit in list_units(run.scale.shards) if run.scale.shards.is_dir() else ():
            if unit not in committed:
                contents = read_journal(run.scale.shards, unit)
                journaled |= set(contents.replies)
                intents |= {frame["seq"] for frame in contents.intents.values()}
        stored = stored_calls(run, committed)
        self.lost += len(self.answered - journaled - stored)
        self.answered |= journaled
        # What an earlier kill left open, and nobody asked again yet, was in flight then, not now.
        self.in_flight.append(len(intents - self._open_before))
        self._open_before |= intents


def stored_calls(run: Run, units: Iterable[str]) -> set[str]:
    """Ids of the calls whose replies lie in committed shards."""
    found: set[str] = set()
    for unit in units:
        table = read_shard(run.scale.shards / f"{unit}.calls.parquet", columns=["call_id", "reply"])
        found |= {c["call_id"] for c in table.to_pylist() if c["reply"] is not None}
    return found


@dataclass(frozen=True)
class Balance:
    """A finished run against the server's log."""

    rows: int
    twice: int
    lost: int
    asked_again: int
    requests: int
    billed_nano: int
    settled_nano: int
    at_risk_nano: int
    hashes: tuple[str, ...]
    states: dict[str, int]

    @property
    def money_is_whole(self) -> bool:
        """The run knows of every dollar that the server billed, and settles none that it did not."""
        return self.settled_nano <= self.billed_nano <= self.settled_nano + self.at_risk_nano


def weigh(path: Path, log: Iterable[Entry], wanted: int) -> Balance:
    """Count a finished run's rows and money, and what the server was asked for it."""
    run = Run(path)
    entries = read_manifest(run.scale.path)
    ids = _row_ids(run, entries)
    answers: Counter[str] = Counter()
    requests = bill = 0
    for entry in log:
        if entry.hash:
            requests, bill = requests + 1, bill + entry.bill
            answers[entry.hash] += entry.answered
    return Balance(
        rows=len(ids),
        twice=len(ids) - len(set(ids)),
        lost=wanted - len(set(ids)),
        asked_again=sum(count - 1 for count in answers.values() if count > 1),
        requests=requests,
        billed_nano=bill,
        settled_nano=sum(sum(e.cost_nano.values()) for e in entries),
        at_risk_nano=sum(sum(e.at_risk_nano.values()) for e in entries),
        hashes=tuple(e.content_hash for e in entries),
        states=dict(sum((Counter(e.rows) for e in entries), Counter())),
    )


def _row_ids(run: Run, entries: Iterable[ShardEntry]) -> list[str]:
    paths = [run.scale.shards / f"{e.shard:05d}.parquet" for e in entries]
    return [one for path in paths for one in read_shard(path, columns=["id"])["id"].to_pylist()]
