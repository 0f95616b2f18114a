"""Judges in a pipeline: scores, reasons and flags of rows; unscored rows; retries that quote; reuse that is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import run_pipeline
from nexa_core.engine.campaign import Outcome
from nexa_core.events import CallsPlanned, Event
from nexa_core.testing.chaos import ChaosServer, Faults, Settings, serve_in_thread
from nexa_core.workspace import Workspace

Start = Callable[..., Outcome]


@pytest.fixture
def start(workspace: Workspace) -> Start:
    """Run a teacher and two judges over forty rows against a server."""

    def run(url: str, run_id: str, rubric: str = "judge/factual", **more: Any) -> Outcome:
        listeners, reuse = more.pop("listeners", ()), more.pop("reuse", ())
        lines = [json.dumps({"id": f"q{n}", "prompt": f"What is {n}?"}) for n in range(40)]
        (workspace.root / "rows.jsonl").write_text("\n".join(lines))
        role = {"model": "vllm/chaos", "base_url": url, "price": {"input": 0.1, "output": 0.4}}
        whole: dict[str, Any] = {
            "nexa": 1,
            "name": "judged",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"teacher": {**role, "sampling": {"max_tokens": 300}}, "examiner": role},
            "steps": [
                {
                    "generate": {
                        "id": "answer",
                        "model": "teacher",
                        "prompt": {"user": "{{ prompt }}"},
                        "into": "response",
                    }
                },
                {"judge": {"id": "factual", "model": "examiner", "rubric": rubric}},
                {"judge": {"id": "sound", "model": "examiner", "rubric": "judge/reasoning"}},
            ],
            "accept": {"min_score": 0.2, "eager": False},
            "scale": {"rows": "all"},
            "budget": {"usd": 5},
            **more,
        }
        path = workspace.root / f"{run_id}.yaml"
        path.write_text(json.dumps(whole))
        return run_pipeline(
            path, workspace=workspace, run_id=run_id, listeners=listeners, reuse=reuse
        )

    return run


@pytest.fixture
def one(begin: Any, start: Start, server: ChaosServer) -> Outcome:
    """The outcome of a run `one`."""
    found: Outcome = begin("one", lambda: start(server.url, "one"))
    return found


def rows_of(workspace: Workspace, run_id: str) -> list[dict[str, Any]]:
    folder = workspace.artifacts_path / run_id / "scale" / "shards"
    files = sorted(path for path in folder.glob("*.parquet") if "calls" not in path.name)
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_rows_have_scores_reasons_and_criteria(one: Outcome, workspace: Workspace) -> None:
    """The lowest criterion is the score, and what the judge said stands beside the row."""
    rows = rows_of(workspace, "one")
    assert sum(one.as_json()["rows"].values()) == len(rows) == 40
    for row in rows:
        assert row["scores"]["factual"] == min(json.loads(row["factual_criteria"]).values())
        assert row["factual_reason"]
        kept = min(row["scores"]["factual"], row["scores"]["sound"]) >= 0.2
        assert row["state"] == ("accepted" if kept else "rejected")
    steps = {step["step"] for step in rows[0]["provenance"]["steps"]}
    assert steps == {"answer", "factual", "sound"}


def test_invalid_replies_are_asked_again_and_none_is_invented(
    start: Start, workspace: Workspace
) -> None:
    """With a third of all replies invalid, each row is scored by a valid one or is `unscored`."""
    faults = Faults(broken_json=0.2, wrong_schema=0.2)
    with serve_in_thread(Settings(seed=2, faults=faults)) as server:
        outcome = start(server.url, "j", fail_over=1.0)
    rows = rows_of(workspace, "j")
    assert outcome.as_json()["calls"]["asked"] > 120
    unscored = [row for row in rows if row["reason"] == "unscored"]
    for row in rows:
        scores = (row["scores"]["factual"], row["scores"]["sound"])
        # Rejected for the score that there is, where that decides; never accepted.
        assert None not in scores or row["state"] != "accepted"
        assert (None in scores) or row["reason"] != "unscored"
    assert len(rows) == 40 > len(unscored) > 0


def test_a_changed_rubric_asks_that_judge_again_and_nobody_else(
    one: Outcome, start: Start, workspace: Workspace, server: ChaosServer
) -> None:
    """The printed plan says forty of eighty judgements, and that is what is asked."""
    heard: list[Event] = []
    folder = workspace.root / "prompts" / "judge"
    folder.mkdir(parents=True)
    text = (Path(__file__).parents[2] / "prompts/judge/factual.md").read_text()
    stricter = text.replace("name: judge/factual", "name: judge/strict").replace("fair", "hard")
    (folder / "strict.md").write_text(stricter)
    two = start(server.url, "two", rubric="judge/strict", reuse=["one"], listeners=[heard.append])
    plan = next(event for event in heard if isinstance(event, CallsPlanned))
    assert plan.roles["teacher"] == {"reused": 40, "to_ask": 0}
    assert plan.roles["examiner"] == {"reused": 40, "to_ask": 40}
    assert two.as_json()["calls"] == {"asked": 40, "replayed": 0, "reused": 80}


def test_a_changed_threshold_asks_nothing(one: Outcome, start: Start, server: ChaosServer) -> None:
    """Scores are stored; another rule over them is no call."""
    second = start(server.url, "two", reuse=["one"], accept={"min_score": 0.5, "eager": False})
    assert second.as_json()["calls"]["asked"] == 0
    assert second.as_json()["rows"]["accepted"] < one.as_json()["rows"]["accepted"]


def test_a_retry_quotes_why_the_row_was_rejected(
    start: Start, workspace: Workspace, server: ChaosServer
) -> None:
    """The stricter prompt gets the rule that failed and what each judge said."""
    prompt = workspace.root / "prompts" / "again.md"
    prompt.parent.mkdir(exist_ok=True)
    head = "---\nname: again\nversion: 1\ninputs: [prompt, rejection]\n---\n"
    prompt.write_text(f"{head}{{{{ prompt }}}}\nRejected: {{{{ rejection }}}}")
    retry = {"step": "answer", "prompt": "again", "attempts": 1}
    start(server.url, "j", accept={"min_score": 0.5, "eager": False, "retry": retry})
    folder = workspace.artifacts_path / "j" / "scale" / "shards"
    calls = [c for p in folder.glob("*.calls.parquet") for c in pq.read_table(p).to_pylist()]
    again = [c for c in calls if c["step"] == "answer" and "~r1" in c["row_id"]]
    assert again and all(
        "Rejected: min_score\nfactual 0." in json.loads(c["request"])["prompt"][0][1] for c in again
    )
