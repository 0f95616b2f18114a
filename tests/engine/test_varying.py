"""Columns drawn per row: their values are alike whichever of them a batch draws."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import run_pipeline
from nexa_core.engine.requests import Subject
from nexa_core.engine.steps.asking import draw_columns, vary_types
from nexa_core.store.layout import Run
from nexa_core.testing.chaos import serve_in_thread
from nexa_core.workspace import Workspace


@pytest.mark.parametrize(
    ("values", "kind", "drawn"),
    [
        ([1, 2.5], pa.float64(), {1.0, 2.5}),
        ([1, "two", True], pa.string(), {"1", "two", "true"}),
        ([{"a": 1}, "b"], pa.string(), {'{"a":1}', "b"}),
        (["x", None], pa.string(), {"x", None}),
    ],
)
def test_values_have_one_type(values: list[Any], kind: pa.DataType, drawn: set[Any]) -> None:
    """The type that holds all of them, else text: the same for a batch of one row and of all."""
    subjects = [Subject(f"r{n}", f"{n:x}", 0, 0) for n in range(40)]
    found = draw_columns({"v": values}, 0, subjects)["v"]
    assert set(found) == drawn
    assert [draw_columns({"v": values}, 0, [s])["v"][0] for s in subjects] == found
    assert vary_types({"v": values})["v"].type == kind


def test_mixed_values_reach_the_dataset(workspace: Workspace) -> None:
    """A pipeline that varies numbers and words runs to its end, shard by shard of one row."""
    lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(12)]
    (workspace.root / "rows.jsonl").write_text("\n".join(lines))
    path = workspace.root / "varied.yaml"
    prompt = {"user": "{{ prompt }} {{ level }}"}
    step = {"id": "answer", "model": "teacher", "prompt": prompt, "vary": {"level": [1, "two"]}}
    with serve_in_thread() as server:
        whole = {
            "nexa": 1,
            "name": "varied",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"teacher": {"model": "vllm/chaos", "base_url": server.url}},
            "steps": [{"generate": step}],
            "scale": {"rows": "all", "shard_rows": 1},
            "package": {"format": "prompt-completion"},
        }
        path.write_text(json.dumps(whole))
        outcome = run_pipeline(path, workspace=workspace, run_id="v")
    assert outcome.status == "done", outcome.reason
    files = Run(workspace.artifacts_path / "v").scale.shards.glob("?????.parquet")
    levels = {row["level"] for file in files for row in pq.read_table(file).to_pylist()}
    assert levels == {"1", "two"}
