"""Evaluations that decide: by a test that was on record before any arm was asked."""

from __future__ import annotations

from typing import Any

import pytest

from nexa_core.actions import reviewing
from nexa_core.actions.signing import sign
from nexa_core.errors import UsageError
from nexa_core.workspace import Workspace

FEW_SHOT = """\
---
name: eval/few_shot
version: 1
api: completions
inputs: [instruction]
---
Examples come first.
{{ instruction }}
"""


@pytest.fixture
def evaluated(workspace: Workspace, write_rows: Any, answering: Any) -> dict[str, Any]:
    """Thirty collected rows, then base against few-shot on 40 items of ten documents."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(30)])
    items = [
        {"id": f"i{n}", "instruction": f"Say {n}", "answer": "42", "document": f"d{n % 10}"}
        for n in range(40)
    ]
    write_rows(items, "items.jsonl")
    folder = workspace.root / "prompts" / "eval"
    folder.mkdir(parents=True)
    (folder / "few_shot.md").write_text(FEW_SHOT)
    return answering(
        pilot=None,
        scale={"rows": "all"},
        package={"format": "prompt-completion", "prompt": "question"},
        evaluate={"items": "items.jsonl", "arms": ["base", "base-few-shot"], "require": "better"},
    )


def teach(workspace: Workspace, share: int) -> None:
    """With examples before it, the model answers 42 to `share` of 100 items, and else never."""
    path = workspace.root / "plugins" / "scripted_plugin.py"
    told = (
        "def answer(request):\n"
        f"    if 'Examples' in str(request.prompt) and int(request.id, 16) % 100 < {share}:\n"
        "        return '42'\n"
    )
    path.write_text(path.read_text().replace("def answer(request):\n", told))


def test_a_better_arm_proceeds_by_the_registered_test(
    run: Any, evaluated: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """The plan, with the hash of the items, is a record before the decision; both replay."""
    teach(workspace, 90)
    outcome = run(evaluated, "better")
    assert (outcome.status, outcome.results["evaluation"]["decision"]) == ("done", "PROCEED")
    assert decisions("better")[1:] == [
        ("evaluation_plan", "PROCEED", False),
        ("evaluation", "PROCEED", False),
    ]
    _, plan, decided = reviewing.gate_show("better", workspace=workspace)
    assert decided.terms["plan"] == plan.hash and decided.terms["item_hash"]
    assert plan.terms["test"] == "mcnemar_midp" and "Registered before" in plan.reason
    page = (workspace.artifacts_path / "better" / "report.html").read_text()
    assert "Evaluation, before it began" in page and "won, 0 lost" in page
    assert not reviewing.gate_replay("better", workspace=workspace)["differences"]


def test_an_arm_that_is_not_better_fails_the_run(
    run: Any, evaluated: dict[str, Any], workspace: Workspace, decisions: Any, resume: Any
) -> None:
    """Exit 1 with the counts; decided once; a person's signature lets it stand."""
    teach(workspace, 5)
    outcome = run(evaluated, "equal")
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert "accuracy_gain" in outcome.reason
    assert resume("equal").exit_code == 1
    assert len(decisions("equal")) == 3
    sign("equal", "PROCEED", "known", workspace=workspace, signer="ada")
    assert resume("equal").status == "done"


def test_an_effect_that_was_asked_for_must_be_reached(
    run: Any, evaluated: dict[str, Any], workspace: Workspace
) -> None:
    """A gain that is certain and too small does not do."""
    teach(workspace, 50)
    evaluated["evaluate"]["effect"] = 0.9
    assert run(evaluated, "small").exit_code == 1


def test_items_of_one_document_are_tested_as_one(
    run: Any, evaluated: dict[str, Any], workspace: Workspace
) -> None:
    """The primary test flips whole clusters; it is on record and replays."""
    teach(workspace, 90)
    evaluated["evaluate"]["cluster"] = "document"
    assert run(evaluated, "clustered").status == "done"
    decided = reviewing.gate_show("clustered", workspace=workspace)[-1]
    assert decided.terms["test"] == "sign_flip"
    assert len(decided.tallies["accuracy_gain"]["clusters"]) == 10
    assert not reviewing.gate_replay("clustered", workspace=workspace)["differences"]


def test_without_require_the_result_is_reported(
    run: Any, evaluated: dict[str, Any], workspace: Workspace
) -> None:
    """Not better, exit 0, and on record all the same."""
    teach(workspace, 5)
    del evaluated["evaluate"]["require"]
    outcome = run(evaluated, "reported")
    assert outcome.status == "done"
    decided = reviewing.gate_show("reported", workspace=workspace)[-1]
    assert decided.checks[0]["verdict"] == "FAIL" and "decides nothing" in decided.reason


@pytest.mark.parametrize(
    ("change", "told"),
    [({"arms": ["base"]}, "two arms"), ({"cluster": "chapter"}, "have no 'chapter'")],
)
def test_what_could_never_decide_is_refused(
    run: Any, evaluated: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    """One arm has nothing to beat; items without the column cannot be clustered."""
    evaluated["evaluate"] |= change
    with pytest.raises(UsageError, match=told):
        run(evaluated)
