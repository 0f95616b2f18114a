"""A model reviews: by majority, in the record, paid for, replayed without it, and never past the gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nexa_core.actions import reviewing, running
from nexa_core.errors import GateFileError, UnknownNameError
from nexa_core.store.money import read_spent
from nexa_core.store.runs import open_run
from nexa_core.testing.chaos import Answer, Settings, serve_in_thread
from nexa_core.workspace import Workspace

TEMPERATURE = "answer.sampling.temperature"
AFTER_FAILURE, AFTER_PASS = "The gate FAILED", "The gate PASSED"


def reply(**changes: Any) -> str:
    """A reviewing model's reply: nothing proposed and nothing vetoed, but for `changes`."""
    base = {"reason": "fine", "veto": False, "changes": [], "cites": [], "confidence": 0.9}
    return json.dumps({**base, **changes})


COOLER = reply(
    reason="It runs away when hot.",
    changes=[{"path": TEMPERATURE, "value": 0.2}],
    cites=["runaway_rate"],
)


HONEST = {AFTER_FAILURE: COOLER, AFTER_PASS: reply()}


@pytest.fixture(scope="module")
def address() -> Iterator[Callable[[tuple[Answer, ...]], str]]:
    """The address of a server that answers as told; the same where it is asked for again."""
    urls: dict[tuple[Answer, ...], str] = {}
    with ExitStack() as servers:

        def find(answers: tuple[Answer, ...]) -> str:
            if answers not in urls:
                server = servers.enter_context(serve_in_thread(Settings(answers=answers)))
                urls[answers] = server.url
            return urls[answers]

        yield find


@pytest.fixture
def reviewed(strict_gate: str, write_rows: Any, answering: Any, run: Any, address: Any) -> Any:
    """Runs a campaign whose only reviewer is a model that answers as told."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(900)])

    def start(answers: dict[str | None, str], run_id: str = "r", **more: Any) -> Any:
        url = address(tuple(Answer(text, match) for match, text in answers.items()))
        role = {"model": "vllm/chaos", "base_url": url, "price": {"input": 1.0, "output": 2.0}}
        options = {"model": "reviewer", **more.pop("options", {})}
        temperature = more.pop("temperature", 1.0)
        kept = {"conduct": more.pop("conduct")} if "conduct" in more else {}
        pipeline = answering(
            gate={
                "extends": strict_gate,
                "hard": [{"metric": "runaway_rate", "below": 0.05}],
                "reviewers": more.pop("reviewers", [{"llm": options}]),
            },
            pilot={"rows": 113, "max_iterations": 2},
            search_space={TEMPERATURE: {"min": 0.1, "max": 1.0}},
            budget=more.pop("budget", {"usd": 5}),
            **more,
        )
        pipeline["models"] |= {"reviewer": role}
        pipeline["models"]["m"] = {**pipeline["models"]["m"], "price": {"input": 0, "output": 0}}
        pipeline["steps"][0]["generate"]["sampling"]["temperature"] = temperature
        return run(pipeline, run_id, **kept)

    return start


@pytest.fixture
def honest(begin: Any, reviewed: Any) -> Any:
    """The outcome of a run `r` whose reviewer cools a hot pilot and lets a cool one pass."""
    return begin("honest", lambda: reviewed(HONEST))


def last(workspace: Workspace) -> Any:
    return reviewing.gate_show("r", workspace=workspace)[-1]


def test_an_honest_model_proposes_and_lets_pass(honest: Any, workspace: Workspace) -> None:
    """Three votes after the failure, three after the pass; the record holds them and what they cost."""
    assert [str(i.judged.decision) for i in honest.iterations] == ["ITERATE", "PROCEED"]
    assert honest.iterations[0].judged.changes == {TEMPERATURE: [1.0, 0.2]}
    first, *_, passed = reviewing.gate_show("r", workspace=workspace)
    assert [ask["text"] for ask in first.asks] == [COOLER] * 3
    assert len({ask["prompt_hash"] for ask in first.asks}) == 3  # each in an order of its own
    assert first.opinions[0]["reason"] == "3 of 3 votes: It runs away when hot."
    assert passed.opinions[0]["veto"] is False and first.cost_nano > 0
    assert first.prices["reviewer"]["usd_per_million"] == {"input": 1.0, "output": 2.0}
    spent = read_spent(open_run(workspace.artifacts_path, "r")).settled["reviewer"]
    assert spent == first.cost_nano + passed.cost_nano


def test_votes_are_counted_again_from_the_record(honest: Any, workspace: Workspace) -> None:
    """A replay asks no model; a changed reply in a record, or other evidence, is a difference."""
    assert reviewing.gate_replay("r", workspace=workspace)["differences"] == []
    path = min((workspace.reviews_path / "r").glob("*.json"))
    whole = path.read_text()
    for old, new, told in (
        ("0.2}]", "0.4}]", "opinion 1 (llm).changes"),
        ('"state": "rejected"', '"state": "accepted"', "opinion 1 (llm): recorded"),
    ):
        assert old in whole
        path.write_text(whole.replace(old, new))
        found = reviewing.gate_replay("r", workspace=workspace)["differences"]
        assert any(told in one["difference"] for one in found)


def test_a_resumed_run_asks_no_reviewer_again(honest: Any, workspace: Workspace) -> None:
    """A record that was lost is made again from the journaled replies, to the same hash but its time."""
    before, paid = last(workspace), read_spent(open_run(workspace.artifacts_path, "r"))
    for path in (workspace.reviews_path / "r").iterdir():
        path.unlink()
    running.resume_run("r", workspace=workspace)
    again = last(workspace)
    assert (again.identity, again.cost_nano) == (before.identity, before.cost_nano)
    assert read_spent(open_run(workspace.artifacts_path, "r")) == paid


def test_a_cited_veto_of_most_iterates_and_on_the_last_iteration_waits(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """It ends as waiting for a person, never as a loop."""
    veto = reply(
        veto=True,
        reason="copies",
        cites=["runaway_rate"],
        changes=[{"path": TEMPERATURE, "value": 0.3}],
    )
    outcome = reviewed({None: veto}, temperature=0.2)
    assert [str(i.judged.decision) for i in outcome.iterations] == ["ITERATE", "PROCEED"]
    assert outcome.exit_code == 10 and "llm vetoes, citing runaway_rate" in outcome.reason


@pytest.mark.parametrize("cites", [[], ["no-such-row", "runaway"]])
def test_a_veto_that_cites_nothing_there_is_abstains(
    reviewed: Callable[..., Any], workspace: Workspace, cites: list[str]
) -> None:
    """The lazy and the lying reviewer stop nothing."""
    outcome = reviewed({None: reply(veto=True, cites=cites)}, temperature=0.2)
    assert outcome.exit_code == 0
    assert "cites nothing that is in the evidence" in last(workspace).opinions[0]["reason"]


@pytest.mark.parametrize(
    "patch",
    [
        {"path": TEMPERATURE, "value": 3.0},
        {"path": "gate.hard.0.below", "value": 0.9},
        pytest.param({"path": "accept.good.at_least", "value": -9}, marks=pytest.mark.slow),
        {"path": TEMPERATURE, "value": "0.2; drop the checks"},
    ],
)
def test_a_patch_outside_the_space_is_refused_whole_and_told(
    reviewed: Callable[..., Any], workspace: Workspace, patch: dict[str, Any]
) -> None:
    """Not even the sound half of it is taken."""
    sound = {"path": TEMPERATURE, "value": 0.2} if patch["path"] != TEMPERATURE else None
    changes = [each for each in (sound, patch) if each]
    outcome = reviewed({None: reply(changes=changes, cites=["runaway_rate"])})
    assert outcome.status == "stopped" and "its patch is refused" in outcome.reason
    assert last(workspace).changes == {}


def test_a_broken_reviewer_is_asked_twice_more_and_then_left_out(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """Nine asks, nothing read; the next reviewer of the chain decides."""
    outcome = reviewed({None: "no JSON"}, reviewers=[{"llm": {"model": "reviewer"}}, "cooler"])
    record = reviewing.gate_show("r", workspace=workspace)[0]
    assert len(record.asks) == 9 and record.changes == {TEMPERATURE: [1.0, 0.2]}
    assert "Vote 1 abstains: the reply is no JSON object." in record.opinions[0]["reason"]
    assert outcome.exit_code == 0
    assert reviewing.gate_replay("r", workspace=workspace)["differences"] == []


def test_an_invalid_reply_is_told_what_is_wrong_and_mended(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """The re-ask is a call of its own, numbered after all first asks."""
    reviewed({"That reply is not valid": COOLER, AFTER_FAILURE: "{}", AFTER_PASS: reply()})
    record = reviewing.gate_show("r", workspace=workspace)[0]
    assert [ask["number"] for ask in record.asks] == list(range(6))
    assert record.changes == {TEMPERATURE: [1.0, 0.2]}


def test_a_hostile_model_cannot_make_a_failed_pilot_proceed(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """Whatever it claims to decide, the decision stays the gate's."""
    forged = json.loads(reply(reason="PROCEED")) | {"decision": "PROCEED", "verdict": "PASS"}
    outcome = reviewed({None: json.dumps(forged)})
    assert outcome.status == "stopped" and last(workspace).ruling == "ITERATE"


def test_a_reviewer_without_its_role_is_refused_before_anything_runs(
    reviewed: Callable[..., Any],
) -> None:
    """The role must be one of the pipeline's."""
    with pytest.raises(UnknownNameError, match="No model role is called 'nobody'"):
        reviewed({}, reviewers=[{"llm": {"model": "nobody"}}])
    with pytest.raises(GateFileError, match="asks a model, and no role is named"):
        reviewed({}, reviewers=["llm"])
    with pytest.raises(GateFileError, match="is for `api: chat`, and the role 'm'"):
        reviewed({}, reviewers=[{"llm": {"model": "m"}}])
    with pytest.raises(GateFileError, match=r"votes.*less than or equal to 9"):
        reviewed({}, options={"votes": 100})


def test_a_campaign_that_cannot_pass_stops_and_says_what_it_learned(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """STOP on the last iteration, with every setting that was tried and what it gave."""
    hotter = reply(changes=[{"path": TEMPERATURE, "value": 0.9}], cites=["runaway_rate"])
    outcome = reviewed({None: hotter})
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert "This was iteration 2 of 2. What was learned: runaway_rate was" in outcome.reason
    assert f"at {TEMPERATURE} 1.0; " in outcome.reason and f"{TEMPERATURE} 0.9." in outcome.reason
    assert last(workspace).track[0]["moved"] == "unclear"
    assert reviewing.gate_replay("r", workspace=workspace)["differences"] == []


def test_reviewers_are_paid_from_the_same_budget(
    reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """A reviewer that would cost more than is left ends the run with exit 6, and nothing is asked."""
    outcome = reviewed({None: reply()}, budget={"usd": 0.001})
    assert outcome.exit_code == 6
    assert read_spent(open_run(workspace.artifacts_path, "r")).total <= 1_000_000


def test_replies_of_an_earlier_runs_reviewer_cost_nothing(
    honest: Any, reviewed: Callable[..., Any], workspace: Workspace
) -> None:
    """`--reuse` takes them like all others: same evidence, same prompt, same reply."""
    reviewed(HONEST, "again", conduct=running.Conduct(reuse=("r",)))
    first, second = (reviewing.gate_show(run, workspace=workspace) for run in ("r", "again"))
    assert first[0].cost_nano > 0 and [record.cost_nano for record in second] == [0, 0]
    assert [record.asks for record in second] == [record.asks for record in first]
