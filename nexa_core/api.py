"""The Python API: load a pipeline, try it, run it, read what came out. It calls the same actions as the shell.

Example:
    import nexa_core as nexa
    pipeline = nexa.load("pipelines/audit.yaml").set("source.path", "answers.jsonl")
    run = pipeline.run()
    run.gate.decision, run.rows("rejected")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa_core.actions import estimating, previewing, reviewing, running
from nexa_core.engine.announcer import Listener
from nexa_core.engine.binding import HELD_PATH
from nexa_core.engine.campaign import PHASES, Outcome
from nexa_core.pipeline import Pipeline, load_pipeline, pipeline_from
from nexa_core.plugins import load_plugins
from nexa_core.reviews import Review
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import Run, open_run
from nexa_core.store.shards import read_shard
from nexa_core.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LoadedPipeline", "PastRun", "load", "open_past_run"]


def load(file: str | Path, workspace: str | Path | None = None) -> LoadedPipeline:
    """The pipeline in a file, or of a name that the workspace or nexa ships.

    Raises:
        UsageError: With file and line, for every mistake in it.
    """
    found = find_workspace(workspace)
    return LoadedPipeline(load_pipeline(found.find_pipeline(str(file))), found)


def open_past_run(run: str = "latest", workspace: str | Path | None = None) -> PastRun:
    """A run made earlier, by id."""
    found = find_workspace(workspace)
    return PastRun(open_run(found.artifacts_path, run), found)


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline that is read and checked, and has not run."""

    pipeline: Pipeline
    workspace: Workspace

    def set(self, path: str, value: Any) -> LoadedPipeline:
        """The same pipeline with another value at a dotted path, step id or section first."""
        changed = pipeline_from(self.pipeline.resolved(), [f"{path}={_as_yaml(value)}"])
        return LoadedPipeline(changed, self.workspace)

    def preview(self, source: Any = None, rows: int = 3) -> list[dict[str, Any]]:
        """The first rows taken through every step; `source` is a DataFrame, a dataset or dicts."""
        pipeline = _with_source(self.pipeline, source)
        plugins = load_plugins(self.workspace)
        return previewing.preview_pipeline(pipeline, self.workspace, plugins, rows, source)

    def estimate(
        self, source: Any = None, *, assume: Sequence[str] = (), like: str | None = None
    ) -> dict[str, Any]:
        """Calls, tokens, dollars and time of a run, before anything is asked; see `nexa estimate`."""
        pipeline = _with_source(self.pipeline, source)
        plugins = load_plugins(self.workspace)
        return estimating.estimate_pipeline(
            pipeline, self.workspace, plugins, assume, like=like, data=source
        )

    def run(
        self,
        source: Any = None,
        *,
        budget_usd: float | None = None,
        run_id: str | None = None,
        phases: Sequence[str] = PHASES,
        listeners: Sequence[Listener] = (),
    ) -> PastRun:
        """Run it to its end; works inside a running event loop too.

        Args:
            source: Rows that stand in for the pipeline's source; they are kept with the run.
            budget_usd: The most the run may cost, in dollars.
        """
        pipeline = _with_source(self.pipeline, source)
        if budget_usd is not None:
            pipeline = pipeline_from(pipeline.resolved(), [f"budget.usd={budget_usd}"])
        plugins = load_plugins(self.workspace)
        outcome = running.start(
            pipeline, self.workspace, plugins, run_id, phases, listeners, data=source
        )
        return PastRun(
            open_run(self.workspace.artifacts_path, outcome.run), self.workspace, outcome
        )


@dataclass(frozen=True)
class PastRun:
    """A run and what it left; `outcome` is there where this process made it."""

    folder: Run
    workspace: Workspace
    outcome: Outcome | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def gate(self) -> Review | None:
        """The gate's last decision, None where there was no gate."""
        reviews = self.reviews
        return reviews[-1] if reviews else None

    @property
    def reviews(self) -> list[Review]:
        """Every decision, in order."""
        return reviewing.gate_show(self.id, workspace=self.workspace)

    def rows(self, state: str | None = None) -> pa.Table:
        """The rows of the dataset's shards as an Arrow table, of one state or of all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = list(self._tables())
        table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
        return table.filter(pc.field("state") == state) if state and tables else table

    def _tables(self) -> Iterator[pa.Table]:
        for folder in reviewing.dataset_folders(self.folder, self.workspace):
            for entry in read_manifest(folder.path):
                yield read_shard(folder.shards / f"{entry.shard:05d}.parquet")


def _with_source(pipeline: Pipeline, source: Any) -> Pipeline:
    if source is None or pipeline.source is not None:
        return pipeline
    return pipeline_from({**pipeline.resolved(), "source": {"path": HELD_PATH}})


def _as_yaml(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
