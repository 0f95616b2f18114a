"""Rows given in memory: a run of them is taken up again, and knows where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nexa_core as nexa
from nexa_core.actions.running import resume_run
from nexa_core.errors import SourceError
from nexa_core.workspace import Workspace

ROWS = [{"id": f"r{n}", "said": "word " * n} for n in range(9)]


@pytest.fixture
def held(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run over rows in memory, in place of its pipeline's own source; its folder."""
    (workspace.root / "own.jsonl").write_text('{"id": "x", "said": "no"}\n')
    pipeline = {
        "nexa": 1,
        "name": "held",
        "source": {"path": "own.jsonl", "id": "id", "licence": "MIT", "map": {"response": "said"}},
        "steps": [{"check": ["empty"]}],
        "pilot": {"rows": "all", "max_iterations": 1},
        "package": {"format": "prompt-completion", "prompt": "id"},
    }
    (workspace.root / "held.yaml").write_text(json.dumps(pipeline))
    monkeypatch.chdir(workspace.root)
    run = nexa.load("held.yaml").run(source=ROWS, run_id="held")
    assert run.rows("accepted").num_rows == 8
    return workspace.artifacts_path / "held"


def test_a_run_of_rows_in_memory_is_taken_up_again(held: Path, workspace: Workspace) -> None:
    """Nothing has changed: it ends as it had."""
    assert resume_run("held", workspace=workspace).status == "done"


def test_other_rows_are_not_taken_for_them(held: Path, workspace: Workspace) -> None:
    """A stored row that was changed is a changed source."""
    table = pa.Table.from_pylist([{**ROWS[0], "said": "other"}, *ROWS[1:]])
    pq.write_table(table, held / "source.parquet")
    with pytest.raises(SourceError, match=r"'rows-in-memory\.parquet' has changed"):
        resume_run("held", workspace=workspace)


def test_the_card_does_not_name_the_pipelines_own_source(held: Path) -> None:
    """Neither its path nor its licence: these rows came from elsewhere."""
    card = (held / "dataset/README.md").read_text()
    assert "rows-in-memory.parquet" in card and "own.jsonl" not in card and "MIT" not in card
