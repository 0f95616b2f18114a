"""How fast a resumed run asks changes nothing of what it asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexa_core.actions.running import resume_run, run_pipeline
from nexa_core.engine.campaign import Outcome
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.testing.chaos import Settings, serve_in_thread
from nexa_core.workspace import Workspace


def collect(workspace: Workspace, url: str, run_id: str, usd: float) -> Outcome:
    """Run until 120 rows are accepted, about half of what is asked, with six shards under way."""
    lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(600)]
    (workspace.root / "rows.jsonl").write_text("\n".join(lines))
    role = {"model": "vllm/chaos", "base_url": url, "concurrency": 100}
    role |= {"price": {"input": 1.0, "output": 1.0}, "sampling": {"max_tokens": 300}}
    step = {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}
    whole: dict[str, Any] = {
        "nexa": 1,
        "name": "paced",
        "source": {"path": "rows.jsonl", "id": "id"},
        "models": {"teacher": role},
        "steps": [
            {"generate": {**step, "into": "response"}},
            {"check": [{"length": {"min_chars": 1200}}]},
        ],
        "scale": {"accepted": 120, "max_rows": 600, "shard_rows": 40},
        "budget": {"usd": usd},
    }
    path = workspace.root / f"{run_id}.yaml"
    path.write_text(json.dumps(whole))
    return run_pipeline(path, workspace=workspace, run_id=run_id)


def cut(workspace: Workspace, run_id: str) -> list[int]:
    """The source rows of each shard of a run's scale."""
    entries = read_manifest(Run(workspace.artifacts_path / run_id).scale.path)
    return [entry.source_rows for entry in entries]


@pytest.mark.parametrize("share", [0.5, pytest.param(0.85, marks=pytest.mark.slow)])
def test_another_concurrency_cuts_the_same_shards(workspace: Workspace, share: float) -> None:
    """A shard that moved would take its rows from where their replies were journaled: paid twice."""
    with serve_in_thread(Settings(seed=5)) as server:
        whole = collect(workspace, server.url, "whole", 1.0)
        asked, bill = server.stats.requests, server.stats.bill_nano
        spent = collect(workspace, server.url, "part", share * bill / 1e9)
        assert spent.status == "budget"
        sets = ["models.teacher.concurrency=4", "budget.usd=1"]
        assert resume_run("part", workspace=workspace, sets=sets).status == whole.status
        assert server.stats.requests - 2 * asked <= 2  # the preflights'
    assert cut(workspace, "part") == cut(workspace, "whole")
