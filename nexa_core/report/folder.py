"""What a run's folder holds, read once: parts that are absent or damaged are left out and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nexa_core.errors import NexaError
from nexa_core.records import State
from nexa_core.reviews import Review, read_reviews, verify_chain
from nexa_core.store.events import read_events
from nexa_core.store.files import read_lines
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import (
    ShardEntry,
    Totals,
    count_retried,
    read_manifest,
    total_entries,
)
from nexa_core.store.status import read_status

__all__ = ["THRESHOLDS", "Facts", "TrainingFacts", "UnitFacts", "read_folder"]

T = TypeVar("T")

THRESHOLDS = "thresholds.json"
"""What the run would have kept at other thresholds; derived."""


@dataclass(frozen=True)
class UnitFacts:
    """An iteration (`number` from 1) or scale (`number` None): what is committed and measured."""

    folder: ShardFolder
    number: int | None
    entries: tuple[ShardEntry, ...]
    parameters: Mapping[str, Any]
    summary: Mapping[str, Any] | None

    @property
    def totals(self) -> Totals:
        """The sums over the unit's shards."""
        return total_entries(self.entries)


@dataclass(frozen=True)
class TrainingFacts:
    """A training: `manifest` is None while it has not ended; `metrics` as logged, a dict a step."""

    name: str
    manifest: Mapping[str, Any] | None
    metrics: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Facts:
    """Everything the report is made from; `problems` says what could not be read."""

    run: Run
    record: Mapping[str, Any]
    status: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    units: tuple[UnitFacts, ...]
    reviews: tuple[Review, ...]
    chain_problems: tuple[str, ...]
    dataset: Mapping[str, Any] | None
    trainings: tuple[TrainingFacts, ...]
    comparison: Mapping[str, Any] | None
    estimate: Mapping[str, Any] | None
    problems: tuple[str, ...]
    thresholds: tuple[Mapping[str, Any], ...] = ()

    @property
    def iterations(self) -> tuple[UnitFacts, ...]:
        """The iterations that were started, in order."""
        return tuple(unit for unit in self.units if unit.number is not None)

    @property
    def scale(self) -> UnitFacts | None:
        """Scale, where it was started."""
        return next((unit for unit in self.units if unit.number is None), None)

    @property
    def kept(self) -> tuple[UnitFacts, ...]:
        """The units whose rows count: the last iteration, and scale."""
        scale = self.scale
        return self.iterations[-1:] + ((scale,) if scale else ())

    @property
    def totals(self) -> Totals:
        """The sums over the units whose rows count."""
        return total_entries(entry for unit in self.kept for entry in unit.entries)

    @property
    def all_totals(self) -> Totals:
        """The sums over every unit: iterations that failed cost money too."""
        return total_entries(entry for unit in self.units for entry in unit.entries)

    @property
    def retried(self) -> int:
        """Rejected rows of these units that were tried again."""
        return count_retried(self.totals, self.record.get("pipeline") or {})

    @property
    def accepted(self) -> int:
        """Accepted rows of the units that count."""
        return self.totals.rows.get(State.ACCEPTED, 0)

    @property
    def finished(self) -> Mapping[str, Any] | None:
        """The newest event that ended the run, None where it goes on or was cut short."""
        last = [e for e in self.events if e["event"] in ("RunFinished", "RunResumed")][-1:]
        return last[0] if last and last[0]["event"] == "RunFinished" else None


@dataclass
class _Reader:
    """Reads parts and notes those that are damaged instead of failing the report."""

    root: Path
    problems: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[], T], default: T) -> T:
        """What `read` gives; `default`, and a note, where the part is damaged."""
        try:
            return read()
        except NexaError as error:
            self.problems.append(str(error))
            return default

    def load(self, path: Path) -> Mapping[str, Any] | None:
        """A JSON object; None where there is none."""
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as cause:
            self._note(path, str(cause))
            return None
        if isinstance(value, dict):
            return value
        self._note(path, "it holds no JSON object")
        return None

    def load_lines(self, path: Path) -> tuple[Mapping[str, Any], ...]:
        """The JSON objects of a file of lines; others are left out."""
        found, bad = [], 0
        for line in read_lines(path):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict):
                found.append(value)
            else:
                bad += 1
        if bad:
            self._note(path, f"{bad} of its lines are no JSON objects")
        return tuple(found)

    def _note(self, path: Path, why: str) -> None:
        self.problems.append(f"'{path.relative_to(self.root)}' cannot be read: {why}.")


def read_folder(run: Run, reviews_folder: Path) -> Facts:
    """Read everything that lies in a run's folder and among its reviews.

    Raises:
        StoreError: run.json cannot be read: without it there is no run.
    """
    record = run.record
    reader = _Reader(run.path)
    return Facts(
        run=run,
        record=record,
        status=read_status(run.path),
        events=tuple(read_events(run.path).records),
        units=_read_units(reader, run),
        reviews=reader.attempt(lambda: read_reviews(reviews_folder), ()),
        chain_problems=verify_chain(reviews_folder),
        thresholds=tuple((reader.load(run.path / THRESHOLDS) or {}).get("lines", ())),
        dataset=reader.load(run.dataset / "manifest.json"),
        trainings=_read_trainings(reader, run),
        comparison=reader.load(run.evaluation / "comparison.json"),
        estimate=reader.load(run.estimate_path),
        problems=tuple(reader.problems),
    )


def _read_units(reader: _Reader, run: Run) -> tuple[UnitFacts, ...]:
    folders: list[tuple[int | None, ShardFolder]] = [
        (int(folder.path.name), folder) for folder in run.iterations()
    ]
    if run.scale.path.exists():
        folders.append((None, run.scale))
    return tuple(_read_unit(reader, folder, number) for number, folder in folders)


def _read_unit(reader: _Reader, folder: ShardFolder, number: int | None) -> UnitFacts:
    entries: list[ShardEntry] = reader.attempt(lambda: read_manifest(folder.path), [])
    given = reader.load(folder.parameters_path) or {}
    summary = reader.load(folder.qc_summary_path)
    return UnitFacts(folder, number, tuple(entries), given.get("parameters") or {}, summary)


def _read_trainings(reader: _Reader, run: Run) -> tuple[TrainingFacts, ...]:
    folders = sorted(path for path in (run.path / "training").glob("*") if path.is_dir())
    return tuple(
        TrainingFacts(
            folder.name,
            reader.load(folder / "manifest.json"),
            reader.load_lines(folder / "metrics.jsonl"),
        )
        for folder in folders
    )
