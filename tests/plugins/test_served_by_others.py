"""A server that is not ours: `transformers serve` with the tiny model answers a whole pipeline."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import run_pipeline
from nexa_core.workspace import Workspace

TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a server of the tiny model, and the model's name there."""
    pytest.importorskip("fastapi", reason="transformers serve needs transformers[serving]")
    spec = find_spec("nexa_tiny")
    assert spec is not None and spec.origin is not None
    weights = tmp_path / "weights"
    shutil.copytree(Path(spec.origin).parent / "weights", weights)
    settings = json.loads((weights / "tokenizer_config.json").read_text())
    (weights / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": TEMPLATE})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(weights)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}/v1", str(weights)
    finally:
        process.terminate()
        process.wait(20)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something answers; loading takes a while."""
    for _ in range(240):
        assert process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server did not come up")


@pytest.mark.slow
def test_a_pipeline_runs_against_transformers_serve(
    served: tuple[str, str], tmp_path: Path
) -> None:
    """Collected, checked, priced and packaged from a server that nexa's authors did not write."""
    url, model = served
    workspace = Workspace(tmp_path / "ws", marked=True)
    workspace.root.mkdir()
    rows = [{"id": f"q{n}", "prompt": f"What is the symbol of element {n}?"} for n in range(12)]
    (workspace.root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    role = {"model": f"transformers/{model}", "base_url": url, "concurrency": 4}
    role |= {"sampling": {"temperature": 0.3, "max_tokens": 24}}
    pipeline = {
        "nexa": 1,
        "name": "served",
        "source": {"path": "rows.jsonl", "id": "id"},
        "models": {"teacher": {**role, "price": {"input": 0.1, "output": 0.1}}},
        "steps": [
            {
                "generate": {
                    "model": "teacher",
                    "prompt": {"user": "{{ prompt }}"},
                    "into": "response",
                }
            },
            {"check": ["empty"]},
        ],
        "scale": {"rows": "all"},
        "budget": {"usd": 1},
        "package": {"format": "prompt-completion"},
    }
    (workspace.root / "p.yaml").write_text(json.dumps(pipeline))
    outcome = run_pipeline(workspace.root / "p.yaml", workspace=workspace, run_id="served")
    assert (outcome.status, outcome.as_json()["calls"]["asked"]) == ("done", 12)
    assert outcome.spent.settled["teacher"] > 0
    calls = pq.read_table(outcome_path(workspace) / "scale/shards/00000.calls.parquet").to_pylist()
    assert {call["served_by"] for call in calls} == {f"{model}@main"}


def outcome_path(workspace: Workspace) -> Path:
    return workspace.artifacts_path / "served"
