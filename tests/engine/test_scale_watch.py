"""Scale runs that are watched: drift pauses them before more is spent, certain failure ends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexa_core.actions import reviewing
from nexa_core.actions.signing import sign
from nexa_core.engine.context import RunHalted, RunInterrupted, StopFlag
from nexa_core.store.manifest import read_manifest
from nexa_core.workspace import Workspace

GATE = """\
gate: watched
confidence: 0.95
hard:
  - {metric: acceptance_rate, at_least: 0.3}
  - {metric: runaway_rate, below: 0.2}
extend: {max_rows: 200}
reviewers: []
"""


LINE_BYTES = 25
"""Of the model's log: a call's identity, and the end of the line."""


@pytest.fixture
def watched(workspace: Workspace, write_rows: Any, answering: Any) -> dict[str, Any]:
    """Scale works through 700 questions in shards of 60; a pilot of 100 passes."""
    (workspace.root / "gates").mkdir(exist_ok=True)
    (workspace.root / "gates" / "watched.yaml").write_text(GATE)
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(700)])
    found = answering(
        gate="watched",
        pilot={"rows": 100, "max_iterations": 1},
        scale={"rows": "all", "shard_rows": 60},
        package={"format": "prompt-completion", "prompt": "question"},
    )
    found["steps"][0]["generate"]["sampling"]["temperature"] = 0.2
    return found


def worsen(workspace: Workspace, after: int, share: float, runaway: bool = False) -> None:
    """From the question after `after` calls on, the model answers badly: `share` of 100 rows."""
    path = workspace.root / "plugins" / "scripted_plugin.py"
    told = "echo_words(request) + '\\nNEXT'" if runaway else "echo_words(request)"
    text = path.read_text().replace(
        "def choose(request):\n",
        f"def choose(request):\n    if is_late() and int(request.id, 16) % 100 < {100 * share}:\n"
        "        first = 'A) yes' in str(request.prompt)\n"
        "        return (-3.0, -0.1) if first else (-0.1, -3.0)\n",
    )
    text = text.replace(
        "    return echo_words(request)\n",
        f"    return {told} if is_late() else echo_words(request)\n",
    )
    text = text.replace(
        "def answer(request):\n",
        f"def is_late():\n    return LOG.stat().st_size > {after * LINE_BYTES}\n\ndef answer(request):\n",
    )
    path.write_text(text)


def count_rows(workspace: Workspace, run: str) -> int:
    """The source rows of everything that a run has committed."""
    folder = workspace.artifacts_path / run
    units = [*folder.glob("iterations/*"), folder / "scale"]
    return sum(entry.source_rows for unit in units for entry in read_manifest(unit))


def test_a_stable_scale_goes_through_and_is_decided_on_record(
    run: Any, watched: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """No alarm; the decision over all rows is a record in the same chain, and replays."""
    outcome = run(watched, "stable")
    assert outcome.status == "done"
    assert decisions("stable") == [
        ("watched", "PROCEED", False),
        ("scale_qc", "PROCEED", False),
        ("dataset_qc", "PROCEED", False),
    ]
    assert not reviewing.gate_replay("stable", workspace=workspace)["differences"]


@pytest.fixture
def drifting(begin: Any, run: Any, watched: dict[str, Any], workspace: Workspace) -> Any:
    """The outcome of a run `drifting` that worsens while it scales."""
    worsen(workspace, after=170, share=0.5)
    return begin("drifting", lambda: run(watched, "drifting"))


def test_drift_pauses_scale_until_a_person_signs(
    drifting: Any, workspace: Workspace, decisions: Any, resume: Any
) -> None:
    """Acceptance falls from 90 % to 45 %, over a limit of 30 %: exit 10 with most rows unspent; signed, it goes on."""
    outcome = drifting
    assert (outcome.status, outcome.exit_code) == ("waiting", 10)
    assert "acceptance_rate has drifted" in outcome.reason and "nexa gate sign" in outcome.reason
    assert 100 < count_rows(workspace, "drifting") < 600
    assert not (workspace.artifacts_path / "drifting" / "dataset").exists()
    assert resume("drifting").exit_code == 10
    assert decisions("drifting")[1:] == [("drift", "STOP", True)]
    assert "Drift of scale" in (workspace.artifacts_path / "drifting" / "report.html").read_text()
    sign("drifting", "PROCEED", "good enough", workspace=workspace, signer="ada")
    after = resume("drifting")
    assert (after.status, sum(unit.source_rows for unit in after.units)) == ("done", 700)
    assert not reviewing.gate_replay("drifting", workspace=workspace)["differences"]
    assert not reviewing.gate_verify("drifting", workspace=workspace)["problems"]


def test_a_drift_that_is_signed_to_stop_ends_the_run(
    drifting: Any, workspace: Workspace, resume: Any
) -> None:
    """Exit 1, nothing packaged, and no further row."""
    before = count_rows(workspace, "drifting")
    sign("drifting", "STOP", "not this", workspace=workspace, signer="ada")
    outcome = resume("drifting")
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert sum(unit.source_rows for unit in outcome.units) == before
    assert not (workspace.artifacts_path / "drifting" / "dataset").exists()


@pytest.mark.slow
def test_drift_can_be_left_unwatched(
    run: Any, watched: dict[str, Any], workspace: Workspace
) -> None:
    """`scale.drift: off` works through every row; the gate over all of them still decides."""
    worsen(workspace, after=170, share=0.5)
    watched["scale"]["drift"] = "off"
    outcome = run(watched, "unwatched")
    assert outcome.status == "done"
    assert sum(unit.source_rows for unit in outcome.units) == 700


def test_a_scale_whose_gate_cannot_hold_ends_at_once_unpackaged(
    run: Any, watched: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """Every answer runs away: certain after few shards; exit 1, no dataset, on record."""
    worsen(workspace, after=170, share=0.0, runaway=True)
    watched["scale"]["drift"] = "off"
    outcome = run(watched, "failing")
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert sum(unit.source_rows for unit in outcome.units) < 700
    assert not (workspace.artifacts_path / "failing" / "dataset").exists()
    assert decisions("failing")[-1] == ("scale_qc", "STOP", False)
    summary = workspace.artifacts_path / "failing" / "scale" / "qc_summary.json"
    assert json.loads(summary.read_text())["decision"] == "FAIL"


@pytest.mark.slow
def test_what_was_under_way_at_a_pause_is_not_asked_again(
    run: Any, watched: dict[str, Any], workspace: Workspace, resume: Any, monkeypatch: Any
) -> None:
    """Several shards at once over an endpoint: few more calls after the pause, none of them twice."""
    worsen(workspace, after=170, share=0.5)
    watched["models"]["m"] |= {"model": "scripted/endpoint", "concurrency": 4}
    monkeypatch.setenv("SCRIPTED_SECONDS", "0.002")
    outcome = run(watched, "busy")
    log = workspace.root / "asked.log"
    assert outcome.exit_code == 10 and len(log.read_text().split()) < 700
    sign("busy", "PROCEED", "go on", workspace=workspace, signer="ada")
    assert resume("busy").status == "done"
    asked = log.read_text().split()
    assert len(asked) == len(set(asked)) == 700


def test_a_run_that_has_decided_to_go_no_further_asks_nothing_new() -> None:
    """The flag that every new call and shard asks raises, with the reason; a signal comes first."""
    flag = StopFlag(halted="acceptance_rate has drifted")
    with pytest.raises(RunHalted, match="has drifted"):
        flag.check()
    flag.signal = 15
    with pytest.raises(RunInterrupted):
        flag.check()
