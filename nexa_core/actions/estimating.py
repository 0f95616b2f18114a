"""What a pipeline will ask, take and cost, before anything is asked or paid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.binding import bind
from nexa_core.engine.estimate import estimate_plan, measure_run, read_assumptions
from nexa_core.engine.estimate.prompts import SAMPLE_ROWS
from nexa_core.engine.sources import HeldRows
from nexa_core.pipeline import Pipeline, load_pipeline, roles_of
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["estimate", "estimate_pipeline", "estimate_plan"]


def estimate(
    file: str | Path,
    sets: Sequence[str] = (),
    assume: Sequence[str] = (),
    rows: int = SAMPLE_ROWS,
    like: str | None = None,
    *,
    workspace: Workspace,
    workspace_plugins: bool = True,
) -> dict[str, Any]:
    """Calls, tokens, dollars and time of a run of this file; see `estimate_plan`.

    `assume` holds texts like `acceptance=0.6` and `answer.tokens=250`. `rows` of the source are
    rendered. `like` names a run whose measured acceptance and answer lengths are taken for what
    `assume` leaves open. No model is asked and no key is needed.

    Raises:
        UsageError: Something in the file or among the assumptions is wrong.
    """
    workspace.load_environment()
    pipeline = load_pipeline(workspace.find_pipeline(str(file)), sets)
    plugins = load_plugins(workspace, workspace_plugins)
    return estimate_pipeline(pipeline, workspace, plugins, assume, rows, like)


def estimate_pipeline(
    pipeline: Pipeline,
    workspace: Workspace,
    plugins: Plugins,
    assume: Sequence[str] = (),
    rows: int = SAMPLE_ROWS,
    like: str | None = None,
    data: Any = None,
) -> dict[str, Any]:
    """`estimate` of a pipeline that is read already; `data` stands in for its source."""
    held = HeldRows(data) if data is not None else None
    plan, source = bind(pipeline, workspace, plugins, held)
    asking = [step.id for step in pipeline.asking_steps if roles_of(step)]
    assumed = read_assumptions(assume, asking)
    if like is not None:
        assumed = measure_run(open_run(workspace.artifacts_path, like), plan, assumed)
    return estimate_plan(plan, source, assumed, rows)
