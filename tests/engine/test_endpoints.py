"""Where a role's requests go is part of what a call is: one name on two hosts is two models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nexa_core.actions.running import resume_run, run_pipeline
from nexa_core.engine import plan
from nexa_core.engine.arms import Arm
from nexa_core.engine.campaign import Outcome
from nexa_core.engine.items import Items
from nexa_core.engine.tries import Line
from nexa_core.pipeline import Role
from nexa_core.prompts import Prompt
from nexa_core.store.layout import Run
from nexa_core.testing.chaos import serve_in_thread
from nexa_core.testing.models import ScriptedModel
from nexa_core.workspace import Workspace

Start = Callable[..., Outcome]


@pytest.fixture
def start(workspace: Workspace) -> Start:
    """Run a pipeline in which each address answers the same ten prompts under the same name."""

    def run(*urls: str, run_id: str = "r", **settings: Any) -> Outcome:
        lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(10)]
        (workspace.root / "rows.jsonl").write_text("\n".join(lines))
        prompt, names = {"user": "{{ prompt }}"}, [f"host{n}" for n in range(len(urls))]
        whole = {
            "nexa": 1,
            "name": "hosts",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {
                name: {"model": "vllm/chaos", "base_url": url}
                for name, url in zip(names, urls, strict=True)
            },
            "steps": [
                {"generate": {"id": f"{n}_says", "model": n, "prompt": prompt, "into": f"{n}_text"}}
                for n in names
            ],
            "scale": {"rows": "all", "shard_rows": 5},
        }
        path = workspace.root / f"{run_id}.yaml"
        path.write_text(json.dumps(whole))
        return run_pipeline(path, workspace=workspace, run_id=run_id, **settings)

    return run


def test_one_name_on_two_hosts_is_two_models(start: Start) -> None:
    """Each host answers every prompt: a reply of the one is never taken for the other's."""
    with serve_in_thread() as one, serve_in_thread() as other:
        outcome = start(one.url, other.url)
        # Each preflight lists the models, and that is one request more.
        assert 10 <= one.stats.requests == other.stats.requests <= 11
    assert outcome.as_json()["calls"] == {"asked": 20, "replayed": 0, "reused": 0}


def test_an_arm_elsewhere_is_another_arm() -> None:
    """Predictions of one server are not read back as those of another."""
    items, prompt = Items("i", ()), Prompt("p", "{{ prompt }}")
    lines = [Line(ScriptedModel(), Role(model="vllm/m"), None, at) for at in ("", "a/v1", "b/v1")]
    found = {Arm("base", line, prompt, 9).identity(items, "contains") for line in lines}
    assert len(found) == 3


def test_replies_are_reused_from_the_same_address_alone(start: Start) -> None:
    """The same name elsewhere may be another model, however it is called."""
    with serve_in_thread() as one, serve_in_thread() as other:
        start(one.url)
        again = start(one.url, run_id="again", reuse=["r"])
        moved = start(other.url, run_id="moved", reuse=["r"])
    assert again.as_json()["calls"]["reused"] == 10
    assert moved.as_json()["calls"] == {"asked": 10, "replayed": 0, "reused": 0}


def test_a_run_that_began_before_is_read_as_it_was_written(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls go on without the address, so that nothing that it was answered is asked again."""
    run = Run(workspace.artifacts_path / "r")
    with serve_in_thread() as server:
        with monkeypatch.context() as before:
            before.setattr(plan, "endpoint_of", lambda role: "")
            start(server.url)
        record = json.loads((run.path / "run.json").read_text())
        del record["identity"]
        (run.path / "run.json").write_text(json.dumps(record))
        (run.scale.shards / "00000.parquet").unlink()  # to be done again, from its calls
        outcome = resume_run("r", workspace=workspace)
        assert server.stats.requests <= 10 + 2  # the preflights'
    assert outcome.status == "done"
