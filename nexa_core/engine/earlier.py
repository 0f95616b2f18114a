"""Rows that checks compare with: those of earlier runs, of files, and of sets that plugins ship."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.engine.items import bind_items
from nexa_core.engine.plan import Plan
from nexa_core.engine.sources import SourceRow, open_source, rows_table
from nexa_core.errors import SourceError
from nexa_core.protocols import Source
from nexa_core.records import State
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import list_runs, open_run

__all__ = ["RunRows", "SourceRows", "open_rows", "read_questions"]

BATCH_ROWS = 8192
_KEPT = [State.ACCEPTED.value, State.SURPLUS.value]


@dataclass(frozen=True)
class RunRows:
    """The accepted rows of a run's committed shards, a few thousand at a time."""

    shards: Sequence[Path]

    def __iter__(self) -> Iterator[pa.Table]:
        for path in self.shards:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                yield table.filter(pc.is_in(table["state"], value_set=pa.array(_KEPT)))


@dataclass(frozen=True)
class SourceRows:
    """The readable rows of a source, a few thousand at a time."""

    source: Source

    def __iter__(self) -> Iterator[pa.Table]:
        rows = (row for row in self.source.rows() if not isinstance(row, Exception))
        while batch := list(islice(rows, BATCH_ROWS)):
            yield rows_table([SourceRow("", "", row) for row in batch])


def open_rows(plan: Plan, name: str) -> RunRows | SourceRows:
    """The rows called `name`: a run's by its id, a file's, or a set's that a plugin ships.

    Of a run the last iteration and scale count, as they are what it packages.

    Raises:
        SourceError: Nothing is called so.
    """
    workspace, sources = plan.plugins.workspace, plan.plugins.sources
    if name in {run.id for run in list_runs(workspace.artifacts_path)}:
        run = open_run(workspace.artifacts_path, name)
        folders = [*run.iterations()[-1:], run.scale]
        return RunRows(
            [
                folder.shards / f"{entry.shard:05d}.parquet"
                for folder in folders
                for entry in read_manifest(folder.path)
            ]
        )

    def find_shipped(asked: str) -> Source | None:
        if asked not in sources.names():
            return None
        found: Source = plan.plugins.build(sources.get(asked))
        return found

    try:
        return SourceRows(open_source(name, workspace.root, None, find_shipped))
    except SourceError as cause:
        if "://" in name or Path(workspace.root, name).exists():
            raise
        runs = ", ".join(run.id for run in list_runs(workspace.artifacts_path)[:5]) or "none"
        raise SourceError(
            f"'{name}' is no run, no set, and no file in {workspace.root}.",
            f"Name a run (the newest are: {runs}), or a .jsonl or .parquet file.",
        ) from cause


def read_questions(plan: Plan) -> tuple[str, ...]:
    """The instructions of the pipeline's own evaluation items, none where it names none."""
    items = bind_items(plan)
    return tuple(item["instruction"] for item in items.rows) if items else ()
