"""What a run has spent, read from its manifests and journals: the truth that a resumed budget begins with."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nexa_core.store.files import encode_line, replace_file
from nexa_core.store.journal import JournalContents, read_journal
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import read_forfeits, read_manifest
from nexa_core.store.segments import list_units

__all__ = [
    "NOTE",
    "Spent",
    "journal_money",
    "read_evaluation_money",
    "read_note",
    "read_spent",
    "write_note",
]

NOTE = ".spent"
"""The ending of a note's name; what stands before it is the unit's."""


@dataclass
class Spent:
    """Nano-dollars by role: `settled` was paid; `at_risk` may have been, and nobody can say."""

    settled: Counter[str] = field(default_factory=Counter)
    at_risk: Counter[str] = field(default_factory=Counter)

    def add(self, other: Spent) -> None:
        """Count another's money too."""
        self.settled.update(other.settled)
        self.at_risk.update(other.at_risk)

    @property
    def total(self) -> int:
        """Settled and at risk together."""
        return self.settled.total() + self.at_risk.total()


def journal_money(contents: JournalContents) -> Spent:
    """What a unit's journals say was paid; an intent without an end may have cost what it reserved."""
    spent = Spent()
    ended = [*contents.replies.values(), *contents.duplicates]
    ended += [frame for frames in contents.failures.values() for frame in frames]
    for frame in ended:
        role = frame.get("role", "")
        spent.settled[role] += frame.get("cost_nano") or 0
        spent.at_risk[role] += frame.get("at_risk_nano") or 0
    for frame in contents.lost:
        spent.at_risk[frame.get("role", "")] += frame.get("reserved_nano") or 0
    return spent


def read_note(path: Path) -> Spent:
    """What a note says; nothing where there is none."""
    if not path.exists():
        return Spent()
    value = json.loads(path.read_bytes())
    return Spent(Counter(value["settled"]), Counter(value["at_risk"]))


def write_note(path: Path, spent: Spent) -> None:
    """Note durably what was spent on work that no manifest counts: training, evaluation arms."""
    value = {"settled": dict(+spent.settled), "at_risk": dict(+spent.at_risk)}
    replace_file(path, encode_line(value))


def read_spent(run: Run, salvage: bool = False) -> Spent:
    """What a whole run has spent: shards, reviews, evaluation arms, training."""
    spent = Spent()
    for folder in run.shard_folders():
        spent.add(_folder_money(folder, salvage))
    for iteration in run.iterations():
        for unit in list_units(iteration.reviews):
            spent.add(journal_money(read_journal(iteration.reviews, unit, salvage)))
    spent.add(read_evaluation_money(run.evaluation, salvage))
    for note in sorted(run.path.glob(f"training/*/training{NOTE}")):
        spent.add(read_note(note))
    return spent


def read_evaluation_money(folder: Path, salvage: bool = False) -> Spent:
    """What the arms of an evaluation have cost, those under way too."""
    spent = Spent()
    notes = {path.stem: path for path in folder.glob(f"*{NOTE}")}
    for note in notes.values():
        spent.add(read_note(note))
    for unit in list_units(folder):
        if unit not in notes:  # the note of a finished arm has its journal's money
            spent.add(journal_money(read_journal(folder, unit, salvage)))
    return spent


def _folder_money(folder: ShardFolder, salvage: bool) -> Spent:
    spent = Spent()
    committed = set()
    for entry in read_manifest(folder.path):
        committed.add(f"{entry.shard:05d}")
        spent.add(Spent(Counter(entry.cost_nano), Counter(entry.at_risk_nano)))
    spent.settled.update(read_forfeits(folder.path))
    for unit in list_units(folder.shards):
        if unit not in committed:
            spent.add(journal_money(read_journal(folder.shards, unit, salvage)))
    return spent
