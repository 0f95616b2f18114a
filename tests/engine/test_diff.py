"""Two runs side by side: what was set, what came of it, and which rows tell."""

from __future__ import annotations

import copy
from typing import Any

import pyarrow as pa
import pytest

from nexa_core.actions.differing import diff_runs
from nexa_core.actions.pairing import pair_rows
from nexa_core.errors import UsageError
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import create_run
from nexa_core.store.shards import commit_shard
from nexa_core.workspace import Workspace

ROWS = [{"id": f"r{n}", "question": f"why {n}"} for n in range(40)]


@pytest.fixture
def pair(
    begin: Any, run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> dict[str, Any]:
    """A hot run and a cool one with another prompt, over the same forty rows, compared."""
    write_rows(ROWS)
    check = {"check": ["empty", {"runaway": {"delimiters": ["\nNEXT"]}}]}
    hot = answering(pilot={"rows": "all", "max_iterations": 1})
    hot["steps"] = [hot["steps"][0], check, hot["steps"][1]]
    cool = copy.deepcopy(hot)
    cool["steps"][0]["generate"]["sampling"]["temperature"] = 0.2
    cool["steps"][0]["generate"]["prompt"]["text"] = "Q: {{ question }}\nBriefly.\nA:"

    def make() -> dict[str, Any]:
        run(hot, "hot")
        run(cool, "cool")
        return diff_runs("hot", "cool", workspace)

    found: dict[str, Any] = begin("pair", make)
    return found


def test_it_names_what_was_set_otherwise(pair: dict[str, Any]) -> None:
    """By the paths that --set takes, and nothing else."""
    changed = {each["path"]: (each["a"], each["b"]) for each in pair["configuration"]}
    assert changed["answer.sampling.temperature"] == (1.0, 0.2)
    assert set(changed) == {"answer.sampling.temperature", "answer.prompt.text"}


def test_a_setting_counts_wherever_it_was_written(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """The parameters an iteration ended with are compared, and a path that is only there is no change."""
    write_rows(ROWS)
    space = {"answer.sampling.temperature": {"min": 0.1, "max": 1.0}}
    one = answering(search_space=space)
    two = copy.deepcopy(one)
    two["steps"][0]["generate"]["sampling"] = {"max_tokens": 20}
    two["models"]["m"]["sampling"] = {"temperature": 1.0}
    run(one, "one")
    run(two, "two")
    changed = [each["path"] for each in diff_runs("one", "two", workspace)["configuration"]]
    assert changed == ["models.m.sampling.temperature"]


def test_a_changed_prompt_shows_its_changed_lines(pair: dict[str, Any]) -> None:
    """One prompt differs; the diff holds the new line."""
    [prompt] = pair["prompts"]
    assert prompt["step"] == "answer" and prompt["hashes"][0] != prompt["hashes"][1]
    assert "+Briefly." in prompt["diff"]


def test_rows_are_paired_by_source_row(pair: dict[str, Any]) -> None:
    """All forty are shared; the cool run loses none to runaway, and McNemar counts what it gained."""
    paired, reasons = pair["paired"], (pair["a"]["reasons"], pair["b"]["reasons"])
    assert (paired["rows"], paired["only_a"], paired["only_b"]) == (40, 0, 0)
    assert reasons[0]["runaway"] > 0 and "runaway" not in reasons[1]
    accepted = paired["accepted"]
    gained = pair["b"]["rows"]["accepted"] - pair["a"]["rows"]["accepted"]
    assert accepted["c"] - accepted["b"] == gained > 0
    [score] = [each for each in paired["scores"] if each["score"] == "runaway"]
    assert score["difference"] == pytest.approx(reasons[0]["runaway"] / 40)
    assert score["low"] > 0 and score["p_holm"] < 0.05


def test_equal_runs_differ_in_nothing(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """The same pipeline twice: no change, every answer the same, no difference of any score."""
    write_rows(ROWS)
    for name in ("one", "two"):
        run(answering(), name)
    found = diff_runs("one", "two", workspace)
    assert (found["configuration"], found["environment"], found["prompts"]) == ([], [], [])
    assert found["paired"]["same_answers"] == found["paired"]["rows"] == 20
    assert {each["difference"] for each in found["paired"]["scores"]} == {0.0}


def test_a_run_is_not_compared_with_itself(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """Also not when it is called by two names."""
    write_rows(ROWS)
    run(answering(), "only")
    with pytest.raises(UsageError, match="are one run"):
        diff_runs("only", "latest", workspace)


def commit(workspace: Workspace, name: str, rows: list[dict[str, Any]]) -> Any:
    """A run whose one scale shard holds these rows."""
    made = create_run(workspace.artifacts_path, name, name, {"pipeline": {}, "prompts": {}})
    files = commit_shard(made.scale.create().shards, 0, pa.Table.from_pylist(rows))
    append_entry(made.scale.path, ShardEntry("scale/00000", 0, {}, files.files, files.content_hash))
    return made


def row(source: str, state: str, score: float | None, attempt: int = 0) -> dict[str, Any]:
    keys = {"source_id": source, "sample": 0, "attempt": attempt, "state": state}
    return {**keys, "scores": {"good": score}}


def test_the_last_attempt_counts(workspace: Workspace) -> None:
    """Whatever stood before it: an accepted retry is accepted, a missing score is missing."""
    a = commit(workspace, "a", [row("x", "rejected", 0.1), row("x", "accepted", None, 1)])
    b = commit(workspace, "b", [row("x", "accepted", 0.5), row("y", "accepted", 0.5)])
    found = pair_rows(a, b)
    assert (found["rows"], found["only_b"], found["accepted"]["a"]) == (1, 1, 1)
    assert found["scores"] == []


def test_failed_rows_are_nobodys_loss(workspace: Workspace) -> None:
    """A row whose call failed was not decided, and is outside McNemar's test."""
    a = commit(workspace, "a", [row("x", "failed", None), row("y", "surplus", 1.0)])
    b = commit(workspace, "b", [row("x", "accepted", 1.0), row("y", "rejected", 0.0)])
    accepted = pair_rows(a, b)["accepted"]
    assert (accepted["n"], accepted["b"], accepted["c"]) == (1, 1, 0)


def test_a_run_that_tries_again_is_compared_by_its_answers(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """Forty questions are forty answers in both, however often they were tried."""
    write_rows(ROWS)
    pilot = {"rows": "all", "max_iterations": 1}
    run(answering(pilot=pilot), "once")
    accept = {"good": {"at_least": 0.5}, "retry": {"step": "answer", "attempts": 1}}
    run(answering(pilot=pilot, accept=accept), "twice")
    once, twice = (diff_runs("once", "twice", workspace)[side] for side in "ab")
    assert once["retried"] == 0 < twice["retried"] == twice["total_rows"] - 40
    assert twice["acceptance"] == twice["rows"]["accepted"] / 40 > once["acceptance"]
    report = (workspace.artifacts_path / "twice" / "report.html").read_text(encoding="utf-8")
    assert "of 40 answers of the last iteration" in report
