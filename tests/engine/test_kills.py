"""Runs that are killed at random moments, stopped by signals, and taken up again through the command line."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.store.manifest import read_manifest
from nexa_core.workspace import Workspace

NEXA = [sys.executable, "-m", "nexa_core"]


@pytest.fixture
def pipeline_file(
    workspace: Workspace,
    answering: Callable[..., dict[str, Any]],
    strict_gate: str,
    write_rows: Callable[..., str],
    run: Any,
) -> Path:
    """A gated campaign as a file of the workspace."""
    assert run is not None  # it also writes the critic's prompt
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(900)])
    pipeline = answering(
        gate=strict_gate,
        pilot={"rows": "auto", "max_iterations": 3},
        search_space={"answer.sampling.temperature": {"min": 0.1, "max": 1.0}},
        scale={"accepted": 300, "shard_rows": 60},
    )
    path = workspace.root / "campaign.yaml"
    path.write_text(json.dumps(pipeline))
    return path


def start(workspace: Workspace, *arguments: str, seconds: float = 0.0) -> subprocess.Popen[str]:
    """A `nexa` process in the workspace whose model takes `seconds` for each answer."""
    env = {**os.environ, "SCRIPTED_SECONDS": str(seconds)}
    return subprocess.Popen(
        [*NEXA, *arguments, "--json"],
        cwd=workspace.root,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hashes(workspace: Workspace, run_id: str) -> dict[str, str]:
    """The content hash of every committed shard, by unit."""
    folder = workspace.artifacts_path / run_id
    units = [*sorted(folder.glob("iterations/*")), folder / "scale"]
    return {entry.unit: entry.content_hash for unit in units for entry in read_manifest(unit)}


def dataset_ids(workspace: Workspace, run_id: str) -> list[str]:
    """The row ids of the passing pilot and of scale."""
    folder = workspace.artifacts_path / run_id
    units = [max(folder.glob("iterations/*")), folder / "scale"]
    files = [f for unit in units for f in sorted((unit / "shards").glob("?????.parquet"))]
    return [row for f in files for row in pq.read_table(f, columns=["id"])["id"].to_pylist()]


@pytest.mark.slow
def test_ten_kills_change_nothing(workspace: Workspace, pipeline_file: Path) -> None:
    """Killed at ten random moments and resumed each time: the same shards, and no row twice."""
    whole = start(workspace, "run", str(pipeline_file), "--run-id", "whole")
    _, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    draw = random.Random(7)
    arguments = ["run", str(pipeline_file), "--run-id", "killed"]
    kills = 0
    while kills < 10:
        process = start(workspace, *arguments, seconds=0.004)
        time.sleep(1.5 + draw.random() * 1.5)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        if (workspace.artifacts_path / "killed" / "run.json").exists():
            arguments = ["resume", "killed"]
    last = start(workspace, *arguments)
    out, err = last.communicate(timeout=240)
    assert last.returncode == 0, err
    assert kills >= 3
    assert hashes(workspace, "killed") == hashes(workspace, "whole")
    ids = dataset_ids(workspace, "killed")
    assert len(ids) == len(set(ids))
    assert json.loads(out)["rows"]["accepted"] == 300


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains_and_the_run_goes_on(
    workspace: Workspace, pipeline_file: Path, number: int, code: int
) -> None:
    """Ctrl-C and SIGTERM end a run cleanly with their code; resumed, it ends as it would have."""
    process = start(workspace, "run", str(pipeline_file), "--run-id", "cut", seconds=0.02)
    asked = workspace.root / "asked.log"
    while not asked.exists():
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert json.loads(out)["status"] == "interrupted"
    before = asked.read_text().split()
    resumed = start(workspace, "resume", "cut")
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    after = asked.read_text().split()[len(before) :]
    journaled = set(before[:-8])  # one group of eight may have been under way
    assert not journaled & set(after)
