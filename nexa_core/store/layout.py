"""Where everything of a run lies: the paths below its folder, and its unchanging run.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nexa_core.errors import Place, RunVersionError, StoreError
from nexa_core.store.events import EVENTS
from nexa_core.store.files import disk_errors, make_folder
from nexa_core.store.manifest import MANIFEST
from nexa_core.store.status import STATUS

__all__ = ["FORMAT", "RECORD", "Run", "ShardFolder"]

FORMAT = 1
"""The layout of run folders that this version writes, and the newest that it reads."""

RECORD = "run.json"


@dataclass(frozen=True)
class ShardFolder:
    """The folder of an iteration or of scale: its parameters, shards and manifest.

    `name` is relative to the run, as in `iterations/01` and `scale`.
    """

    path: Path
    name: str

    @property
    def shards(self) -> Path:
        """Where the Parquet files lie, and while a shard is under way its journal."""
        return self.path / "shards"

    @property
    def reviews(self) -> Path:
        """Where the journals of its reviewers' calls lie: small, and kept."""
        return self.path / "reviews"

    @property
    def manifest_path(self) -> Path:
        return self.path / MANIFEST

    @property
    def parameters_path(self) -> Path:
        return self.path / "parameters.json"

    @property
    def qc_summary_path(self) -> Path:
        return self.path / "qc_summary.json"

    def unit(self, shard: int) -> str:
        """A shard's name within the run, as the manifest and events write it."""
        return f"{self.name}/{shard:05d}"

    def create(self) -> ShardFolder:
        """Make the folders where they do not exist."""
        with disk_errors(self.shards, StoreError):
            make_folder(self.shards, self.name.count("/") + 2)
        return self


@dataclass(frozen=True)
class Run:
    """A run's folder; `record` is its run.json, written once and never changed."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The run.json.

        Raises:
            RunVersionError: it was written by a newer nexa.
            StoreError: it cannot be read.
        """
        return _read_record(self.path / RECORD)

    @property
    def pipeline_hash(self) -> str:
        return str(self.record.get("pipeline_hash", ""))

    @property
    def scale(self) -> ShardFolder:
        return ShardFolder(self.path / "scale", "scale")

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def estimate_path(self) -> Path:
        """What the run was expected to take, as it was when the run began."""
        return self.path / "estimate.json"

    @property
    def record_path(self) -> Path:
        return self.path / RECORD

    @property
    def events_path(self) -> Path:
        return self.path / EVENTS

    @property
    def status_path(self) -> Path:
        return self.path / STATUS

    def iteration(self, number: int) -> ShardFolder:
        """The folder of an iteration; they count from 1."""
        name = f"iterations/{number:02d}"
        return ShardFolder(self.path / name, name)

    def iterations(self) -> list[ShardFolder]:
        """The iterations that were started, in order."""
        folders = self.path.glob("iterations/[0-9]*")
        return [self.iteration(number) for number in sorted(int(f.name) for f in folders)]

    def shard_folders(self) -> list[ShardFolder]:
        """Every folder of shards: the iterations that were started, then scale."""
        return [*self.iterations(), self.scale]

    def training(self, name: str) -> Path:
        return self.path / "training" / name


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        version = int(record["format"])
    except (OSError, ValueError, TypeError, KeyError) as cause:
        problem = f"'{path.name}' of run '{path.parent.name}' cannot be read: {cause}."
        raise StoreError(problem, "Restore it from a copy.", Place(str(path))) from cause
    if version > FORMAT:
        raise RunVersionError(
            f"Run '{path.parent.name}' has format {version}; this nexa reads up to {FORMAT}.",
            f"Update nexa to {record.get('nexa_version', 'a newer version')} or later.",
            Place(str(path)),
        )
    return dict(record)
