"""The shipped campaigns under each reviewer: policy, a person, and models that are honest, lazy, hostile or broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa_core.actions import reviewing
from nexa_core.actions.running import DEMO_SETTINGS, run_pipeline
from nexa_core.engine.campaign import Outcome
from nexa_core.testing.chaos import Answer, Settings, serve_in_thread
from nexa_core.workspace import find_workspace

pytestmark = pytest.mark.slow

FAILED, PASSED = "The gate FAILED", "The gate PASSED"
TEMPERATURE = "respond.sampling.temperature"


def say(**changes: Any) -> str:
    """A reviewing model's reply."""
    base = {"reason": "fine", "veto": False, "changes": [], "cites": [], "confidence": 0.9}
    return json.dumps({**base, **changes})


def characters(path: str, rate: str) -> dict[str, tuple[Answer, ...]]:
    """What each kind of model says after a failure, and after a pass."""
    cooler = say(reason="Colder.", changes=[{"path": path, "value": 0.2}], cites=[rate])
    theft = [{"path": "gate.hard.0.below", "value": 1.0}, {"path": path, "value": 99}]
    return {
        "honest": (Answer(cooler, FAILED), Answer(say(cites=[rate]), PASSED)),
        "lazy": (Answer(say()),),
        "hostile": (
            Answer(say(reason="PROCEED at once.", changes=theft, cites=["nothing"]), FAILED),
            Answer(say(reason="No.", veto=True, cites=["nothing"]), PASSED),
        ),
        "broken": (Answer("I would rather talk about the weather."),),
    }


def play(
    pipeline: str, who: str, answers: tuple[Answer, ...], *sets: str, approval: float = 0.97
) -> Outcome:
    """A pilot with one reviewer; every remote role is a server of this process."""
    teacher = Settings(approval=approval, seed=3, text_chars=700)
    with (
        serve_in_thread(teacher) as rows,
        serve_in_thread(Settings(answers=answers, seed=3)) as says,
    ):
        urls = {"reviewer": says.url}
        urls |= {"teacher": rows.url, "judge": rows.url} if pipeline == "distill" else {}
        changed = [
            f"models.{role}={{model: vllm/chaos, base_url: '{url}', price: {{input: 1, output: 2}}, "
            "sampling: {temperature: 0.7, max_tokens: 512}}"
            for role, url in urls.items()
        ]
        gate = "distill_qc" if pipeline == "distill" else "pilot_qc"
        used = "{llm: {model: reviewer}}" if who == "llm" else who
        changed.append(f"gate={{extends: {gate}, reviewers: [{used}]}}")
        workspace = find_workspace(Path.cwd())
        phases = ("pilot",)
        return run_pipeline(
            pipeline, workspace=workspace, sets=[*changed, *sets], run_id="r", phases=phases
        )


def decisions() -> list[str]:
    reviews = reviewing.gate_show("r", workspace=find_workspace(Path.cwd()))
    return [str(review.decision) for review in reviews]


def check_record() -> None:
    """Every decision computes again, no byte was changed, and PROCEED means that each hard rule passed."""
    workspace = find_workspace(Path.cwd())
    assert reviewing.gate_verify("r", workspace=workspace)["problems"] == []
    for review in reviewing.gate_show("r", workspace=workspace):
        if review.decision == "PROCEED":
            assert all(c["verdict"] == "PASS" for c in review.checks if c["hard"])


@pytest.mark.parametrize("approval", [0.97, 0.1])
@pytest.mark.parametrize("who", ["policy", "human", "honest", "lazy", "hostile", "broken"])
def test_distill_under_each_reviewer(who: str, approval: float, workspace_path: Path) -> None:
    """Good answers proceed, or wait for the person; bad ones never proceed, whatever a reviewer says."""
    answers = characters("answer.sampling.temperature", "acceptance_rate").get(who, ())
    sets = ["pilot.max_iterations=2", "steps.1.check=[empty]", "accept.no_flags=false"]
    outcome = play("distill", "llm" if answers else who, answers, *sets, approval=approval)
    check_record()
    if approval > 0.5:
        assert outcome.exit_code == (10 if who == "human" else 0), outcome.reason
        assert decisions()[-1] == "PROCEED"
    else:
        assert "PROCEED" not in decisions()
        assert outcome.exit_code == (10 if who == "human" else 1), outcome.reason


@pytest.mark.parametrize("who", ["policy", "human", "honest", "lazy", "hostile", "broken"])
def test_the_demo_under_each_reviewer(who: str, workspace_path: Path) -> None:
    """From its hot start: who proposes something inside the space gets another pilot, and that one proceeds."""
    answers = characters(TEMPERATURE, "runaway_rate").get(who, ())
    sets: Sequence[str] = [*DEMO_SETTINGS, "name=demo", "pilot.max_iterations=3"]
    outcome = play("bootstrap", "llm" if answers else who, answers, *sets)
    check_record()
    told = decisions()
    assert told[0] != "PROCEED"
    if who in ("policy", "honest"):
        assert told[0] == "ITERATE" and told[-1] == "PROCEED" and outcome.exit_code == 0
    elif who == "human":
        assert outcome.exit_code == 10
    else:
        assert told == ["STOP"] and outcome.exit_code == 1
