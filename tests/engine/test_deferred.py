"""Provider batches: sent by bytes and count, found again, reconciled row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import resume_run, run_pipeline
from nexa_core.engine import deferred
from nexa_core.engine.campaign import Outcome
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Caller, Line
from nexa_core.pipeline import Role
from nexa_core.prices import rates_of
from nexa_core.records import Usage
from nexa_core.store.manifest import read_manifest
from nexa_core.testing.chaos import Faults, Settings, serve_in_thread
from nexa_core.testing.models import ScriptedModel
from nexa_core.workspace import Workspace

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "POLL_SECONDS", (0.02, 0.05))
    monkeypatch.setattr(deferred, "_backoff", lambda tries, least=None: 0.01)


@pytest.fixture
def collect(workspace: Workspace) -> Run:
    """Run a batched pipeline of 40 rows against a server."""

    def run(url: str, **more: Any) -> Outcome:
        lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(40)]
        (workspace.root / "rows.jsonl").write_text("\n".join(lines))
        role = {"model": "openai/chaos", "base_url": url, "batch": True}
        role |= {"price": {"input": 0.15, "output": 0.6}, "sampling": {"max_tokens": 400}}
        step = {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}
        pipeline = {
            "nexa": 1,
            "name": "batched",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"teacher": role},
            "steps": [{"generate": {**step, "into": "response"}}],
            "scale": {"rows": "all", "shard_rows": 20},
            **more,
        }
        path = workspace.root / "batched.yaml"
        path.write_text(json.dumps(pipeline))
        return run_pipeline(path, workspace=workspace, run_id="b")

    return run


def calls_of(folder: Path) -> list[dict[str, Any]]:
    """Every committed call."""
    files = sorted((folder / "scale" / "shards").glob("*.calls.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_a_shard_is_one_batch(collect: Run, workspace: Workspace) -> None:
    """Forty rows in two shards are two batches, each row answered once and billed once."""
    with serve_in_thread(Settings(batch_seconds=0.1)) as server:
        outcome = collect(server.url)
        bill = server.stats.bill_nano
    assert (outcome.status, outcome.as_json()["rows"]["accepted"]) == ("done", 40)
    calls = calls_of(workspace.artifacts_path / "b")
    assert {call["origin"] for call in calls} == {"asked"}
    assert sum(call["cost_nano"] for call in calls) >= bill


def test_lines_that_are_wrong_are_part_of_a_later_batch(collect: Run, workspace: Workspace) -> None:
    """Missing lines, errors and duplicates: what may pass is sent again, and no row is doubled."""
    faults = Faults(line_error=0.2, line_missing=0.1, line_duplicate=0.2, batch_shuffled=1.0)
    with serve_in_thread(Settings(seed=3, faults=faults)) as server:
        collect(server.url, fail_over=1.0)
    calls = calls_of(workspace.artifacts_path / "b")
    assert len({call["call_id"] for call in calls}) == len(calls) == 40
    assert max(call["tries"] for call in calls) > 1
    assert sum(call["error"] is None for call in calls) >= 36


def test_a_batch_that_runs_on_is_found_again(
    collect: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while it waits leaves the id behind; the next one takes the results."""

    async def die(self: Any, batch_id: str) -> Any:
        raise KeyboardInterrupt

    settings = Settings(batch_seconds=0.2)
    with serve_in_thread(settings) as server:
        with monkeypatch.context() as patch:
            patch.setattr(deferred.Deferred, "_wait", die)
            with pytest.raises(KeyboardInterrupt):
                collect(server.url)
        outcome = resume_run("b", workspace=workspace)
        bill = server.stats.bill_nano
    # A batch is billed at half of what the role says, so that a second one would double it to this.
    assert bill < 0.75 * sum(c["cost_nano"] for c in calls_of(workspace.artifacts_path / "b"))
    assert (outcome.status, outcome.as_json()["rows"]["accepted"]) == ("done", 40)
    assert outcome.spent.at_risk.total() == 0


def test_one_that_was_created_and_not_noted_is_found_by_its_nonce(
    collect: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the provider's answer and the journal: no second batch is created."""
    from nexa_openai.batches import BatchEndpointModel

    create = BatchEndpointModel.create_batch

    async def die(self: Any, requests: Any, nonce: str) -> Any:
        await create(self, requests, nonce)
        raise KeyboardInterrupt

    with serve_in_thread(Settings()) as server:
        with monkeypatch.context() as patch:
            patch.setattr(BatchEndpointModel, "create_batch", die)
            with pytest.raises(KeyboardInterrupt):
                collect(server.url, scale={"rows": "all", "shard_rows": 40})
        before = server.stats.bill_nano
        assert resume_run("b", workspace=workspace).status == "done"
        assert server.stats.bill_nano == before


def test_the_budget_holds_for_batches(collect: Run, workspace: Workspace) -> None:
    """What the money does not reach is not sent; what was answered is kept."""
    with serve_in_thread(Settings(bills_maximum=True)) as server:
        outcome = collect(server.url, budget={"usd": 0.0025})
        bill = server.stats.bill_nano
    assert outcome.status == "budget"
    assert 0 < bill <= 2_500_000
    assert read_manifest(workspace.artifacts_path / "b" / "scale") == []
    assert "resume b" in outcome.reason


def test_a_file_is_split_by_the_providers_limits(
    collect: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most seven requests a batch: forty rows still all come back."""
    from nexa_openai.batches import BatchEndpointModel

    monkeypatch.setattr(BatchEndpointModel, "most_requests", 7)
    with serve_in_thread(Settings()) as server:
        assert collect(server.url).as_json()["rows"]["accepted"] == 40


def judged(url: str) -> dict[str, Any]:
    """Steps of a teacher that answers at once, and a judge with batches."""
    role = {"model": "openai/chaos", "base_url": url, "price": {"input": 0.15, "output": 0.6}}
    step = {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}
    return {
        "models": {"teacher": role, "examiner": {**role, "batch": True}},
        "steps": [
            {"generate": {**step, "into": "response"}},
            {"judge": {"id": "factual", "model": "examiner", "rubric": "judge/factual"}},
        ],
    }


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each batch had, in the order in which they were created."""
    from nexa_openai.batches import BatchEndpointModel

    found: list[int] = []
    create = BatchEndpointModel.create_batch

    async def count(self: Any, requests: Any, nonce: str) -> Any:
        found.append(len(requests))
        return await create(self, requests, nonce)

    monkeypatch.setattr(BatchEndpointModel, "create_batch", count)
    return found


def test_a_judge_asks_for_all_rows_in_one_batch(
    collect: Run, workspace: Workspace, sizes: list[int]
) -> None:
    """Twenty rows a shard are one batch; those whose verdict cannot be read are one more, together."""
    faults = Faults(wrong_schema=0.2)
    with serve_in_thread(Settings(seed=2, faults=faults)) as server:
        outcome = collect(server.url, **judged(server.url), fail_over=1.0)
    assert outcome.status == "done"
    found = [call for call in calls_of(workspace.artifacts_path / "b") if call["step"] == "factual"]
    assert len({call["row_id"] for call in found}) == 40
    assert sorted(sizes)[-2:] == [20, 20]
    assert len(sizes) <= 6 and sum(sizes) == len(found) > 40


def test_a_panel_is_a_batch_for_each_role(collect: Run, sizes: list[int]) -> None:
    """Two roles that are asked side by side have a batch each, and not one for the last row alone."""
    with serve_in_thread(Settings()) as server:
        settings = judged(server.url)
        settings["models"]["second"] = settings["models"]["examiner"]
        settings["steps"][1]["judge"] = {
            "id": "factual",
            "model": "examiner",
            "panel": ["second"],
            "rubric": "judge/factual",
        }
        collect(server.url, **settings)
    assert sizes == [20, 20, 20, 20]


def test_equal_rows_are_one_line_of_a_batch(
    collect: Run, workspace: Workspace, sizes: list[int]
) -> None:
    """A file must not name a request twice, and nothing is paid or stays reserved for the second."""
    (workspace.root / "equal.jsonl").write_text('{"prompt": "Why?"}\n' * 5)
    with serve_in_thread(Settings()) as server:
        outcome = collect(server.url, source={"path": "equal.jsonl"})
    calls = calls_of(workspace.artifacts_path / "b")
    assert sizes == [1]
    assert sorted(call["origin"] for call in calls) == ["asked", *["replayed"] * 4]
    assert outcome.spent.settled.total() == sum(call["cost_nano"] for call in calls) > 0


def test_what_goes_into_a_batch_costs_what_batches_cost() -> None:
    """It is reserved and settled at the batch price; the same role's single calls are not."""
    role = Role(model="openai/gpt-4o-mini", batch=True, sampling={"max_tokens": 100})
    line = Line(ScriptedModel(), role, rates_of(role))
    batch = deferred.Deferred(Dispatch(), Caller("answer", "teacher", (line,)), None, {}, {})
    usage = Usage(1000, 100)
    assert batch.line.price(usage) * 2 == line.price(usage) > 0
