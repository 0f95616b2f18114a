"""The gate of a dataset: decided before anything is packaged, so that no patch passes by easy data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexa_core.actions import reviewing
from nexa_core.actions.signing import sign
from nexa_core.errors import UnknownNameError
from nexa_core.store.events import read_events
from nexa_core.workspace import Workspace


@pytest.fixture
def packaged(write_rows: Any, strict_gate: str, answering: Any) -> dict[str, Any]:
    """A campaign whose first iteration fails hot and whose second, cool, is scaled and packaged."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(400)])
    return answering(
        gate=strict_gate,
        pilot={"rows": "auto", "max_iterations": 3},
        search_space={"answer.sampling.temperature": {"min": 0.1, "max": 1.0}},
        scale={"accepted": 100, "shard_rows": 60},
        package={"format": "prompt-completion", "prompt": "question"},
    )


def dull(workspace: Workspace) -> None:
    """Cool, the model says the same to every question."""
    path = workspace.root / "plugins" / "scripted_plugin.py"
    told = "return echo_words(request) if request.sampling.get('temperature', 1) > 0.6 else 'Yes.'"
    path.write_text(path.read_text().replace("    return echo_words(request)\n", f"    {told}\n"))


def test_a_dataset_that_is_as_varied_as_its_first_iteration_is_packaged(
    run: Any, packaged: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """Every measure is on record, as a census, and replays."""
    assert run(packaged, "varied").status == "done"
    assert decisions("varied")[-1] == ("dataset_qc", "PROCEED", False)
    record = reviewing.gate_show("varied", workspace=workspace)[-1]
    found = {check["metric"]: check["value"] for check in record.checks}
    assert found["diversity_kept"] == pytest.approx(1, abs=0.05) and found["repeated_rate"] == 0
    assert record.look.census and record.phase == "package"
    assert not reviewing.gate_replay("varied", workspace=workspace)["differences"]


def test_the_card_says_how_its_rows_were_made_and_not_how_the_first_were(
    run: Any, packaged: dict[str, Any], workspace: Workspace
) -> None:
    """The gate made the second iteration cooler: that temperature is the dataset's."""
    run(packaged, "patched")
    folder = workspace.artifacts_path / "patched"
    used = json.loads((folder / "iterations/02/parameters.json").read_bytes())["parameters"]
    (line,) = [
        line
        for line in (folder / "dataset/README.md").read_text().splitlines()
        if line.startswith("| `answer` | generate")
    ]
    assert used["answer.sampling.temperature"] < 1
    assert f"temperature {used['answer.sampling.temperature']}" in line


def test_a_patch_that_makes_the_data_easy_does_not_pass(
    begin: Any, run: Any, packaged: dict[str, Any], workspace: Workspace, resume: Any
) -> None:
    """The pilot passes, the answers are one; exit 1, nothing packaged, until a person signs."""
    dull(workspace)
    outcome = begin("dull", lambda: run(packaged, "dull"))
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert "diversity_kept" in outcome.reason
    assert not (workspace.artifacts_path / "dull" / "dataset").exists()
    sign("dull", "PROCEED", "it is a yes-sayer", workspace=workspace, signer="ada")
    assert resume("dull").status == "done"
    manifest = (workspace.artifacts_path / "dull" / "dataset" / "manifest.json").read_text()
    assert "override" in manifest and "diversity_kept" in manifest


def test_the_yield_is_of_answers(
    run: Any, answering: Any, write_rows: Any, workspace: Workspace
) -> None:
    """Three samples of a row are three answers, and attempts at one are one."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(30)])
    pipeline = answering(
        accept={"good": {"at_least": 0.5}, "retry": {"step": "answer", "attempts": 1}},
        pilot={"rows": 30, "max_iterations": 1},
        package={"format": "prompt-completion", "prompt": "question"},
    )
    pipeline["steps"][0]["generate"]["samples"] = 3
    outcome = run(pipeline, "sampled")
    rows = outcome.units[0].read(outcome.units[0].entries[0]).to_pylist()
    record = reviewing.gate_show("sampled", workspace=workspace)[-1]
    (check,) = [check for check in record.checks if check["metric"] == "yield_rate"]
    passed = sum(row["state"] == "accepted" for row in rows)
    assert len(rows) > 90 and (check["k"], check["n"]) == (passed, 90)


def test_expected_duplicates_are_told_before_scale(
    begin: Any, run: Any, packaged: dict[str, Any], workspace: Workspace
) -> None:
    """A pilot that says one thing foretells 99 duplicates of 100 rows, once."""
    dull(workspace)
    begin("dull", lambda: run(packaged, "dull"))
    events = read_events(workspace.artifacts_path / "dull").records
    told = [e["message"] for e in events if e["event"] == "WarningRaised"]
    assert [m for m in told if m.startswith("About 99 of 100 accepted rows")]


def test_the_gate_can_be_another_or_none(
    run: Any, packaged: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """A stricter rule fails the run; `none` asks nothing; an unknown measure is refused with its line."""
    packaged["package"]["gate"] = {
        "extends": "dataset_qc",
        "hard": [{"metric": "yield_rate", "at_least": 0.99}],
    }
    assert "yield_rate" in run(packaged, "strict").reason
    packaged["package"]["gate"] = "none"
    assert run(packaged, "ungated").status == "done"
    assert "dataset_qc" not in [name for name, *_ in decisions("ungated")]
    packaged["package"]["gate"] = {"gate": "x", "hard": [{"metric": "yeild_rate", "below": 0.1}]}
    with pytest.raises(UnknownNameError, match="yield_rate"):
        run(packaged)
