"""What a run would have kept at other thresholds, for `nexa accept` and the report."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from nexa_core.actions.reviewing import dataset_folders
from nexa_core.engine.steps.accepting import accept_rule_of
from nexa_core.engine.thresholds import Thresholds
from nexa_core.pipeline import from_resolved
from nexa_core.report import THRESHOLDS
from nexa_core.store.files import replace_file
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import Run
from nexa_core.workspace import Workspace

__all__ = ["keep_thresholds", "list_thresholds"]

_COLUMNS = ("state", "reason", "scores")
_ATTEMPTS = ("source_id", "sample", "attempt")


def list_thresholds(run: Run, workspace: Workspace) -> list[dict[str, Any]]:
    """Accepted rows at other thresholds of each term, from stored scores; empty without a threshold."""
    pipeline = from_resolved(run.record["pipeline"])
    retry = pipeline.accept.retry if pipeline.accept else None
    found = Thresholds(accept_rule_of(pipeline), retry.attempts if retry else 0)
    if not found.terms:
        return []
    flags = ("flags",) if found.rule.no_flags else ()
    columns = (*_COLUMNS, *flags, *(_ATTEMPTS if found.attempts else ()))
    for folder in dataset_folders(run, workspace):
        for entry in read_manifest(folder.path):
            file = pq.ParquetFile(folder.shards / f"{entry.shard:05d}.parquet")
            if set(columns) <= set(file.schema_arrow.names):
                found.add(file.read(columns=list(columns)))
    return found.as_json()


def keep_thresholds(run: Run, workspace: Workspace) -> None:
    """Note the table for the report; derived, and safe to delete."""
    lines = list_thresholds(run, workspace)
    if lines:
        data = json.dumps({"lines": lines}, indent=1).encode()
        replace_file(run.path / THRESHOLDS, data, durable=False)
