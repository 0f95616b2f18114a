"""Replies of earlier runs cost nothing, and the plan says so before anything is asked; rehearsals are marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.actions.carrying import Conduct
from nexa_core.actions.rehearsing import STAND_IN
from nexa_core.actions.running import resume_run, run_pipeline
from nexa_core.engine.campaign import Outcome
from nexa_core.errors import UsageError
from nexa_core.events import CallsPlanned, Event
from nexa_core.store.layout import Run
from nexa_core.store.replies import Replies
from nexa_core.testing.chaos import ChaosServer, Faults, Settings, serve_in_thread
from nexa_core.workspace import Workspace

Start = Callable[..., Outcome]


@pytest.fixture
def start(workspace: Workspace) -> Start:
    """Run a pipeline of `rows` rows with some checks against a server."""

    def run(
        server: ChaosServer | None,
        run_id: str,
        rows: int = 30,
        checks: tuple[str, ...] = ("empty",),
        pipeline: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Outcome:
        lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(rows)]
        (workspace.root / "rows.jsonl").write_text("\n".join(lines))
        role = {"model": "vllm/chaos", "sampling": {"max_tokens": 300}, "concurrency": 8}
        role |= {"base_url": server.url if server else "http://127.0.0.1:9/v1"}
        role |= {"price": {"input": 0.15, "output": 0.6}}
        step = {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}
        whole = {
            "nexa": 1,
            "name": "collect",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"teacher": role},
            "steps": [{"generate": {**step, "into": "response"}}, {"check": list(checks)}],
            "scale": {"rows": "all", "shard_rows": 10},
            **(pipeline or {}),
        }
        path = workspace.root / f"{run_id}.yaml"
        path.write_text(json.dumps(whole))
        return run_pipeline(path, workspace=workspace, run_id=run_id, **settings)

    return run


@pytest.fixture
def one(begin: Any, start: Start, server: ChaosServer) -> Outcome:
    """The outcome of a run `one` of thirty rows."""
    found: Outcome = begin("one", lambda: start(server, "one"))
    return found


def plans(listened: list[Event]) -> list[CallsPlanned]:
    return [event for event in listened if isinstance(event, CallsPlanned)]


def test_one_more_check_asks_nothing_again(one: Outcome, start: Start, server: ChaosServer) -> None:
    """The plan says thirty reused and none to ask, and the server hears nothing."""
    heard: list[Event] = []
    before = server.stats.requests
    second = start(
        server, "two", checks=("empty", "refusal"), reuse=["one"], listeners=[heard.append]
    )
    # Its preflight lists the models, and that is all.
    assert server.stats.requests - before <= 1
    assert plans(heard)[0].roles == {"teacher": {"reused": 30, "to_ask": 0}}
    assert second.as_json()["calls"] == {"asked": 0, "replayed": 0, "reused": 30}
    assert (one.spent.total > 0, second.spent.total) == (True, 0)


def test_more_rows_ask_only_for_themselves(one: Outcome, start: Start, server: ChaosServer) -> None:
    """Fifteen rows more are fifteen calls, as the plan said, with what they may cost."""
    heard: list[Event] = []
    more = start(server, "more", rows=45, reuse=["latest"], listeners=[heard.append])
    plan = plans(heard)[0]
    assert plan.roles == {"teacher": {"reused": 30, "to_ask": 15}}
    assert plan.exact and plan.usd["teacher"] > 0
    assert more.as_json()["calls"] == {"asked": 15, "replayed": 0, "reused": 30}


def test_replies_of_a_run_that_was_cut_are_reused_too(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the journals of shards that were never committed was paid for as well."""
    from nexa_core.store import shards

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with serve_in_thread() as server:
        with monkeypatch.context() as patch:
            patch.setattr(shards, "commit_shard", die)
            with pytest.raises(KeyboardInterrupt):
                start(server, "cut")
        found = Replies([Run(workspace.artifacts_path / "cut")])
        assert len(found) >= 10
        whole = start(server, "whole", reuse=["cut"])
    assert whole.as_json()["calls"]["reused"] == len(found)


def test_failed_rows_are_tried_again_and_nothing_else(start: Start, workspace: Workspace) -> None:
    """`resume --retry-failed` replays what was answered and asks for what was not."""
    broken = Settings(faults=Faults.only("content_filter", 0.3))
    with serve_in_thread(broken) as server:
        first = start(server, "f", pipeline={"fail_over": 1.0})
        failed = first.as_json()["rows"]["failed"]
        server.change(faults="none")
        before = server.stats.requests
        again = resume_run("f", workspace=workspace, conduct=Conduct(retry_failed=True))
        asked = server.stats.requests - before
    counts = again.as_json()
    # One request more lists the models, before anything is asked.
    assert 0 < failed == asked - 1
    assert (counts["rows"]["failed"], counts["rows"]["accepted"]) == (0, 30)


def test_a_rehearsal_asks_nobody_and_is_marked_for_ever(start: Start, workspace: Workspace) -> None:
    """Every remote role goes to the local server at its real price; the dataset says what it is."""
    settings = {"scale": {"rows": "all"}, "package": {"format": "prompt-completion"}}
    outcome = start(None, "play", rehearsal=True, pipeline={**settings, "budget": {"usd": 1}})
    record = json.loads((workspace.artifacts_path / "play" / "run.json").read_text())
    assert record["rehearsal"] is True
    assert record["pipeline"]["models"]["teacher"]["base_url"] == STAND_IN
    assert 0 < outcome.spent.settled["teacher"] < 10**9
    manifest = json.loads((workspace.artifacts_path / "play/dataset/manifest.json").read_text())
    assert manifest["marks"] == ["rehearsal"]


def test_replies_of_a_rehearsal_are_not_reused(start: Start) -> None:
    """They are nobody's."""
    start(None, "play", rehearsal=True)
    with pytest.raises(UsageError, match="rehearsal"):
        start(None, "real", reuse=["play"])


def test_many_files_are_looked_up_without_being_held(one: Outcome, workspace: Workspace) -> None:
    """Every reply is found by its id, whichever file it lies in."""
    found = Replies([Run(workspace.artifacts_path / "one")])
    files = sorted((workspace.artifacts_path / "one/scale/shards").glob("*.calls.parquet"))
    calls = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert sorted(found) == sorted(call["call_id"] for call in calls)
    for call in calls:
        assert found[call["call_id"]]["reply"] == json.loads(call["reply"])
    assert "0" * 24 not in found


def test_failed_calls_of_a_run_are_no_replies(one: Outcome, workspace: Workspace) -> None:
    """A call that ended with an error is asked again by whoever reuses the run."""
    path = workspace.artifacts_path / "one/scale/shards/00000.calls.parquet"
    calls = pq.read_table(path)
    failed = calls["call_id"][0].as_py()
    errors = pa.array(["the server said no", *[None] * (len(calls) - 1)], pa.string())
    at = calls.column_names.index("error")
    pq.write_table(calls.set_column(at, "error", errors), path)
    found = Replies([Run(workspace.artifacts_path / "one")])
    assert failed not in found and len(found) == 30 - 1
