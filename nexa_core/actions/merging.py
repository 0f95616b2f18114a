"""Packages several runs as one dataset."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_core.actions.reviewing import dataset_folders
from nexa_core.engine.models import Models
from nexa_core.engine.package_runs import RunRows, merge_runs
from nexa_core.engine.plan import Plan
from nexa_core.errors import UsageError
from nexa_core.gates import Gate
from nexa_core.pipeline import from_resolved, pipeline_from
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.records import Decision, content_hash
from nexa_core.store.runs import Run, open_run
from nexa_core.workspace import Workspace

__all__ = ["package_runs"]


def package_runs(
    runs: Sequence[str],
    *,
    workspace: Workspace,
    sets: Sequence[str] = (),
    out: str | Path | None = None,
    allow_short: bool = False,
    workspace_plugins: bool = True,
) -> dict[str, Any]:
    """Package what several runs have accepted as one dataset, in `out` or beside the runs.

    The first run's `package` section decides, with what `sets` say; its rows win where texts are
    equal or a source would be in two splits.

    Raises:
        UsageError: A run's gate did not pass, or it has too few rows and `allow_short` is not set.
    """
    plugins = load_plugins(workspace, workspace_plugins)
    found = [open_run(workspace.artifacts_path, name) for name in runs]
    found = list({run.id: run for run in found}.values())
    bound = [_bind(run, sets, workspace, plugins) for run in found]
    for rows in bound:
        _require_good(rows, allow_short)
    identity = content_hash([run.id for run in found], 8)
    folder = Path(out) if out else workspace.artifacts_path / f"merged-{identity}" / "dataset"
    settings = shlex.join([*(f"--set={each}" for each in sets), *([f"--out={out}"] if out else [])])
    result = merge_runs(bound, folder, settings)
    manifest = result.manifest
    told = ("rows", "reasons", "marks", "runs", "mixed", "moved_sources")
    return {**result.as_json(), **{name: manifest[name] for name in told}}


def _bind(run: Run, sets: Sequence[str], workspace: Workspace, plugins: Plugins) -> RunRows:
    for each in sets:
        if not each.startswith("package."):
            raise UsageError(f"'{each}' is not of the `package` section.", "Nothing else changes.")
    pipeline = from_resolved(run.record["pipeline"])
    pipeline = pipeline_from(pipeline.resolved(), sets) if sets else pipeline
    gate = Gate.from_json(run.record["gate"]) if run.record["gate"] else None
    plan = Plan(pipeline, gate, plugins, {}, Models(plugins))
    folders = tuple(dataset_folders(run, workspace))
    return RunRows(run, plan, folders, workspace.reviews_path / run.id)


def _require_good(rows: RunRows, allow_short: bool) -> None:
    run, decision = rows.run, rows.decision
    if rows.plan.gate is not None and decision != Decision.PROCEED:
        raise UsageError(
            f"The gate did not pass run '{run.id}': {decision or 'it has not decided yet'}.",
            f"`nexa gate show {run.id}` says why.",
        )
    short = [mark for mark in rows.marks if mark.startswith("short")]
    if short and not allow_short:
        raise UsageError(
            f"Run '{run.id}' is {short[0]}.", "--allow-short packages it as it is, with a mark."
        )
