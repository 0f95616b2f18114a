"""What came of runs, for reading: a run's report, and two sets of predictions against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["compare", "report"]


def report(run: str, workspace: Workspace) -> dict[str, Any]:
    """Write the HTML report of a run, new where one was; where it lies."""
    from nexa_core.report import write_report

    found = open_run(workspace.artifacts_path, run)
    return {"run": found.id, "report": str(write_report(found, workspace.reviews_path / found.id))}


def compare(a: Path, b: Path | None = None, **fields: str) -> dict[str, Any]:
    """Compare the predictions in two files, or in two columns of one, paired by item.

    `fields` may name a_field, b_field, on and field, as `compare_files` of the evaluation takes them.
    """
    from nexa_core.engine.comparison import compare_files

    return compare_files(a, b, **fields).as_json()
