"""`nexa gate show`: a decision in plain words, as Markdown for a pull request, as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from nexa_core import gates
from nexa_core.gates import Gate, Look, Rule
from nexa_core.records import Decision, Evidence, Opinion
from nexa_core.reviews import Review, render_review, trace_patches
from nexa_core.store.runs import Run

T, P = "respond.sampling.temperature", "respond.sampling.top_p"
GATE = Gate(
    "pilot_qc",
    (
        Rule("runaway_rate", "below", 0.05, population="finished and unfinished completions"),
        Rule("delimiter_leakage", "equals", 0),
        Rule("acceptance_rate", "at_least", 0.5),
    ),
)
SPACE = {T: {"min": 0.05, "max": 1.0}, P: {"min": 0.5, "max": 1.0}}


def decide(
    number: int, iteration: int, k: int, n: int, opinions: list[Opinion], before: list[Review]
) -> Review:
    """The record of one look, as a campaign makes it, at a fixed time."""
    tallies = {
        "runaway_rate": {"k": k, "n": n},
        "delimiter_leakage": {"k": 0, "n": n},
        "acceptance_rate": {"k": n - k, "n": n},
    }
    look = Look(GATE.alpha(5), n, 600)
    checks = gates.assess_gate(GATE, tallies, look)
    ruling = gates.decide(checks, iteration, 5, n, 600)
    parameters = before[-1].changes if before else {}
    values = {T: 1.0, P: 1.0} | {path: new for path, (_, new) in parameters.items()}
    samples = ({"id": "row-7", "response": "Steel.\n# Input: \x1b[2Jnext", "state": "rejected"},)
    evidence = Evidence(iteration, 5, checks, values, SPACE, samples)
    end = gates.conclude(ruling, opinions, evidence)
    history = [
        {"iteration": r.iteration, "parameters": r.parameters, "checks": r.checks} for r in before
    ]
    found = Review(
        run="demo-1",
        iteration=iteration,
        max_iterations=5,
        gate=GATE.as_json(),
        gate_hash=GATE.hash,
        look=look,
        tallies=tallies,
        checks=[c.as_json() for c in checks],
        ruling=ruling.decision,
        decision=end.decision,
        reason=end.reason,
        extend_rows=end.extend_rows,
        changes={path: list(pair) for path, pair in end.changes.items()},
        patch_reason=end.patch_reason,
        waiting=end.waiting,
        refused=end.refused,
        opinions=[o.as_json() for o in opinions],
        parameters=values,
        search_space=SPACE,
        history=history,
        samples=samples,
        track=trace_patches(before, iteration, checks),
        number=number,
        previous=before[-1].hash if before else "",
        created_at="2026-01-02T03:04:05.000+00:00",
    )
    read = Review.from_json({**found.as_json(), "hash": ""})
    return replace(read, hash=read.seal())


@pytest.fixture
def reviewed(run: Run, workspace: Path) -> list[Review]:
    """A failure that policy answered, and a better pilot that waits for a person."""
    cooler = Opinion("policy", "hot sampling rambles", {T: 0.4}, cites=("runaway_rate",))
    lenient = Opinion("llm", "3 of 3 votes: *fine* [/]", {P: 2.0}, cites=("row-7",))
    human = Opinion("human", "A person says which parameters to try next.", waits=True)
    first = decide(1, 1, 19, 150, [cooler], [])
    second = decide(2, 2, 14, 150, [human, lenient, replace(cooler, changes={T: 0.2})], [first])
    folder = workspace / "reviews" / run.id
    folder.mkdir(parents=True)
    for review in (first, second):
        path = folder / review.file_name
        path.write_bytes(review.as_bytes())
        path.with_suffix(".md").write_text(render_review(review))
    return [first, second]


def test_the_last_decision_is_told_in_full(invoke, golden, reviewed) -> None:
    """What was measured, how sure, what would have passed, who said what, what to type."""
    shown = invoke("gate", "show", "demo-1")
    assert shown.code == 0
    golden("gate-show.txt", shown.out)


def test_markdown_can_be_pasted_into_a_pull_request(invoke, golden, reviewed) -> None:
    """The record's own Markdown, text of models inert."""
    shown = invoke("gate", "show", "demo-1", "--md")
    assert shown.out == render_review(reviewed[1])
    golden("gate-show.md", shown.out)


def test_a_record_is_chosen_by_its_number(invoke, reviewed) -> None:
    """Exit 2 for one that is not there; --json gives what was asked for."""
    assert (
        json.loads(invoke("gate", "show", "demo-1", "--review", "1", "--json").out)[0]["number"]
        == 1
    )
    assert len(json.loads(invoke("gate", "show", "demo-1", "--json").out)) == 2
    assert invoke("gate", "show", "demo-1", "--review", "9").code == 2


def test_the_golden_decisions_are_what_the_gate_decides(reviewed) -> None:
    """The pictures above are of real decisions: a patch that was made, and one that waits."""
    first, second = reviewed
    assert (first.decision, first.changes) == (Decision.ITERATE, {T: [1.0, 0.4]})
    assert (second.decision, second.waiting, second.changes) == ("ITERATE", True, {T: [0.4, 0.2]})
    assert second.track[0]["moved"] == "unclear" and "refused" in second.refused[0]


def test_a_stop_says_how_one_can_go_on(invoke, reviewed) -> None:
    """The last record of a campaign that is over names the new run, and what an override leaves behind."""
    stopped = decide(2, 5, 90, 150, [], [reviewed[0]])
    (Path("reviews") / "demo-1" / stopped.file_name).write_bytes(stopped.as_bytes())
    told = invoke("gate", "show", "demo-1").out
    assert "STOP" in told
    assert "nexa run FILE --reuse demo-1" in told
    assert 'nexa gate sign demo-1 --proceed --reason "…"' in told


def test_a_run_that_waits_for_a_signature_says_what_to_type() -> None:
    """Without a proposal ITERATE needs a value, and the line has room for it; the screens are named too."""
    from nexa_core.cli.summary import show_outcome

    last = {"n": 1, "decision": "ITERATE", "reason": "vetoed", "checks": [], "changes": {}}
    outcome = {
        "run": "r",
        "status": "waiting",
        "wall_s": 1.0,
        "iterations": [{**last, "waiting": True}],
    }
    console = Console(width=120, file=StringIO())
    console.print(show_outcome(outcome))
    told = console.file.getvalue()
    assert "r waits for your decision" in told
    assert 'nexa gate sign r --iterate --reason "…" --set PATH=…' in told
    assert "nexa watch r" in told
