"""The policy reviewer: moves inside the range, sized by the gap, told, never repeated in vain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nexa_reviewers
from nexa_core import Evidence, GateCheck, Verdict, gates
from nexa_core.plugins import load_plugins
from nexa_core.workspace import find_workspace
from nexa_reviewers.policy import Policy, _column
from nexa_reviewers.rules import RULES, find_rule

T, P, R = (f"respond.sampling.{knob}" for knob in ("temperature", "top_p", "repetition_penalty"))
SPACE = {T: {"min": 0.05, "max": 1.0}, P: {"min": 0.5, "max": 1.0}, R: {"min": 1.0, "max": 1.5}}
START = {T: 1.0, P: 1.0, R: 1.05}


def check(
    metric="runaway_rate",
    k=19,
    n=150,
    verdict="FAIL",
    rule="below",
    threshold=0.05,
    aggregate="rate",
):
    value = k / n if n else None
    return GateCheck(
        metric, rule, threshold, k, n, value, None, None, Verdict(verdict), aggregate=aggregate
    )


def propose(*checks, parameters=START, space=SPACE, history=(), columns=None):
    return Policy().propose(
        Evidence(1, 5, checks, parameters, space, (), tuple(history), columns or {})
    )


def past(parameters, *checks):
    return {
        "parameters": parameters,
        "checks": [c.as_json() for c in checks],
        "decision": "ITERATE",
    }


def test_the_plugin_registers_policy_without_importing_it():
    """The hook hands over a spec; `build` makes the reviewer, which answers as `propose` does."""
    spec, llm, human = nexa_reviewers.register_reviewers()
    evidence = Evidence(1, 5, (check(),), START, SPACE)
    assert (spec.name, llm.name, human.name) == ("policy", "llm", "human")
    assert asyncio.run(spec.build(None).review(evidence, None)) == Policy().propose(evidence)


@pytest.mark.parametrize(("k", "low", "high"), [(8, 0.3, 0.7), (19, 0.3, 0.5), (40, 0.3, 0.3)])
def test_the_first_move_is_larger_where_the_gap_is(k, low, high):
    """Temperature 1.0 goes to 0.3–0.5 where 19 of 150 run away, and less far where 8 do."""
    opinion = propose(check(k=k))
    assert low <= opinion.changes[T] <= high
    assert opinion.cites == ("runaway_rate",)
    assert f"{T} 1.0 → {opinion.changes[T]}" in opinion.reason


def test_a_move_ends_at_the_end_of_its_range():
    """From 0.1 the temperature goes to 0.05, the least it may be, and not under it."""
    assert propose(check(), parameters={T: 0.1}, space={T: SPACE[T]}).changes == {T: 0.05}


def test_a_narrow_gap_turns_the_temperature_alone():
    """Under twice the limit one knob moves; above it top_p goes along."""
    assert set(propose(check(k=8)).changes) == {T}
    assert set(propose(check(k=19)).changes) == {T, P}


def test_the_published_pilot_gets_colder_narrower_and_more_penalised():
    """Runaway 9 of 43, token limit 24 of 46, temperatures 0.7 and 0.4: every knob, both cited."""
    propose_t = "propose.sampling.temperature"
    parameters = {propose_t: 0.7, T: 0.4, P: 0.9, R: 1.05}
    opinion = propose(
        check(k=9, n=43),
        check("token_limit_rate", 24, 46, threshold=0.1),
        parameters=parameters,
        space={propose_t: {"min": 0.1, "max": 1.0}, **SPACE},
    )
    assert opinion.changes[propose_t] < 0.7
    assert opinion.changes[T] < 0.4
    assert 0.5 <= opinion.changes[P] < 0.9
    assert 1.05 < opinion.changes[R] <= 1.5
    assert opinion.cites == ("runaway_rate", "token_limit_rate")


def test_a_move_that_did_not_help_is_not_made_again():
    """Colder and narrower left the rate as it was, so the penalty comes in turn."""
    before = past(START, check(k=19))
    opinion = propose(check(k=18), parameters={T: 0.3, P: 0.9, R: 1.05}, history=[before])
    assert set(opinion.changes) == {R}


def test_a_move_that_helped_is_made_again():
    """The rate fell but not enough: colder still."""
    before = past(START, check(k=40))
    opinion = propose(check(k=15), parameters={T: 0.5, P: 0.9, R: 1.05}, history=[before])
    assert opinion.changes[T] < 0.5


def test_too_few_rows_to_tell_do_not_speak_against_a_move():
    """4 of 113 after 11 of 295 is no sign that colder did not help: colder once more."""
    before = past(START, check(k=11, n=295, verdict="INCONCLUSIVE"))
    now = check(k=4, n=113, verdict="INCONCLUSIVE")
    opinion = propose(now, parameters={T: 0.3, P: 1.0, R: 1.05}, history=[before])
    assert set(opinion.changes) == {T}


def test_turning_back_stops_half_way_to_what_failed():
    """Too cold for duplicates after too hot for runaways: between the two, not past the first."""
    before = past({T: 0.9}, check(k=40))
    duplicates = check("duplicate_rate", 60, 150, threshold=0.1)
    opinion = propose(duplicates, parameters={T: 0.5}, space={T: SPACE[T]}, history=[before])
    assert opinion.changes == {T: 0.7}


def test_the_earlier_rule_has_the_knob_where_two_want_it():
    """Runaways want it colder, duplicates hotter: runaways come first, and the loser is told."""
    opinion = propose(check(), check("duplicate_rate", 60, 150, threshold=0.1), space={T: SPACE[T]})
    assert opinion.changes[T] < 1
    assert opinion.cites == ("runaway_rate",)
    assert "duplicate_rate is 0.4 of 150 rows, wanted below 0.1: nothing" in opinion.reason


def test_nothing_to_turn_is_an_empty_patch_with_the_reason():
    """Parameters at the end of their range, an empty space and failed calls propose nothing."""
    ends = {T: 0.05, P: 0.5, R: 1.15}
    for opinion in (propose(check(), parameters=ends), propose(check(), space={})):
        assert opinion.changes == {}
        assert "nothing in search_space is left to turn" in opinion.reason
    assert "look at the calls" in propose(check("failed_rate")).reason


def test_only_the_step_that_writes_the_measured_column_is_turned():
    """A metric of the answer leaves the instructions' step alone; a named field chooses another."""
    other = "propose.sampling.temperature"
    space = {other: {"min": 0.1, "max": 1.0}, T: SPACE[T]}
    columns = {"propose": "instruction", "respond": "response"}
    parameters = {other: 1.0, T: 1.0}
    assert set(propose(check(), space=space, columns=columns, parameters=parameters).changes) == {T}
    named = check('runaway_rate("field":"instruction")')
    assert set(propose(named, space=space, columns=columns, parameters=parameters).changes) == {
        other
    }


def test_prompts_are_changed_to_a_choice_not_tried_yet():
    """Refusals follow the prompt: the next choice, and no choice twice."""
    path, refusal = "answer.prompt", check("refusal_rate")
    space = {path: {"choices": ["a", "b", "c"]}}
    assert propose(refusal, space=space, parameters={path: "a"}).changes == {path: "b"}
    history = [past({path: "a"}, check("refusal_rate", 60))]
    assert propose(refusal, space=space, parameters={path: "b"}, history=history).changes == {
        path: "c"
    }


def test_an_undecided_rule_that_looks_fine_moves_nothing_beside_one_that_fails():
    """0 of 60 rows is too thin, not too hot."""
    thin = check("token_limit_rate", 0, 60, "INCONCLUSIVE", threshold=0.1)
    assert propose(
        check("refusal_rate"),
        thin,
        space={T: SPACE[T], "answer.prompt": {"choices": ["a", "b"]}},
        parameters={T: 1.0, "answer.prompt": "a"},
    ).changes == {"answer.prompt": "b"}


def test_an_undecided_rule_alone_still_moves():
    """At the cap with 2 % where "< 5 %" was asked, colder is the only way on."""
    assert propose(check(k=11, n=600, verdict="INCONCLUSIVE")).changes[T] < 1


numbers = st.floats(0.01, 3.0)


@given(
    st.sampled_from(sorted(RULES)),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from([("below", 0.05), ("at_least", 0.5), ("equals", 0)]),
    st.sampled_from(list(Verdict)),
    numbers,
    st.tuples(numbers, numbers).map(sorted),
)
def test_no_proposal_leaves_the_search_space(metric, k, more, rule, verdict, start, ends):
    """Any metric, count, start value and range: every proposed value is one the gate takes."""
    found = check(metric, k, k + more, verdict, *rule)
    space = {T: {"min": ends[0], "max": ends[1]}, "answer.prompt": {"choices": ["a"]}}
    parameters = {T: start, "answer.prompt": "a"}
    opinion = propose(found, parameters=parameters, space=space)
    assert gates.refuse_changes(opinion.changes, parameters, space) is None
    assert not opinion.veto
    assert opinion == propose(found, parameters=parameters, space=space)


def test_every_shipped_metric_has_a_rule(tmp_path):
    """What the shipped metrics can report, the policy knows under every operator."""
    metrics = {spec.name for spec in load_plugins(find_workspace(tmp_path)).metrics.specs()}
    assert metrics <= set(RULES)
    assert all(find_rule(name, op) for name in metrics for op in ("below", "at_least", "equals"))


@pytest.mark.parametrize("name", ["pilot_qc", "distill_qc", "audit_qc", "training_health"])
def test_every_metric_of_the_shipped_gates_has_a_rule(name):
    """What a shipped gate can fail on, the policy knows."""
    gate = gates.read_gate(Path(__file__).parents[2] / "gates" / f"{name}.yaml")
    assert all(find_rule(rule.metric, rule.op) for rule in gate.rules)


def test_what_passes_is_left_alone():
    """After PASS the policy has nothing to say and no veto."""
    opinion = propose(replace(check(), verdict=Verdict.PASS))
    assert (opinion.changes, opinion.veto) == ({}, False)


def test_a_penalty_that_is_too_high_is_eased_before_anything_is_left_to_chance():
    """Above 1.15 it makes a model run away by itself: it goes back there at once, not by steps."""
    opinion = propose(check(k=110), parameters={T: 0.2, P: 1.0, R: 1.4})
    assert opinion.changes[R] == 1.15
    assert propose(check(), parameters={T: 0.2, P: 1.0, R: 1.05}).changes.get(R) is None


def test_no_rule_raises_a_penalty_to_where_it_does_harm():
    """What is raised ends at 1.15, however wide the gap."""
    rates = check("token_limit_rate", 140, 150, threshold=0.1)
    assert propose(rates, parameters={T: 0.2, P: 1.0, R: 1.05}).changes[R] == 1.15


def test_a_users_rules_replace_the_shipped_one_of_their_metric():
    """They come first, by operator where it matters, and name whole paths or last words."""
    rules = {
        "runaway_rate": {
            "moves": [{"knob": R, "direction": "up", "to": 1.2}],
            "why": "our model loops",
        }
    }
    spec = nexa_reviewers.register_reviewers()[0]
    policy = spec.build(spec.options().model_validate({"rules": rules}))
    opinion = policy.propose(Evidence(1, 5, (check(),), START, SPACE))
    assert opinion.changes == {R: 1.2} and "because our model loops" in opinion.reason
    other = check("token_limit_rate", 40, 150, threshold=0.1)
    assert T in policy.propose(Evidence(1, 5, (other,), START, SPACE)).changes


def test_a_file_of_rules_is_read_once(tmp_path):
    """The run keeps what the file said when it began."""
    (tmp_path / "rules.yaml").write_text("my_rate: {moves: [], why: nothing mends it}\n")
    spec = nexa_reviewers.register_reviewers()[0]
    frozen = spec.freeze({"rules": "rules.yaml"}, tmp_path)
    (tmp_path / "rules.yaml").unlink()
    policy = spec.build(spec.options().model_validate(frozen))
    assert (
        "nothing mends it"
        in policy.propose(Evidence(1, 5, (check("my_rate"),), START, SPACE)).reason
    )


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("runaway_rate", "response"),
        ('runaway_rate("field": "plan")', "plan"),
        ('runaway_rate("field": "plan", "delimiters": ["("])[lang=en (US)]', "plan"),
        ("runaway_rate[lang=en (US)]", "response"),
        ('runaway_rate[lang=x("field": "plan")]', "response"),
    ],
)
def test_a_metrics_column_is_read_from_its_options_alone(metric: str, column: str) -> None:
    """The value of a slice is any text, and says nothing."""
    one = check(metric, 9, 43, threshold=0.05)
    evidence = Evidence(1, 3, (one,), {}, {}, columns={"a": "plan", "b": "response"})
    assert _column(one, evidence) == column


def test_two_rules_of_one_metric_and_op_are_an_error():
    """The later would win in silence; rules of other ops stand beside each other."""
    spec = nexa_reviewers.register_reviewers()[0]
    rule = {"moves": [], "why": "nothing mends it"}
    with pytest.raises(ValueError, match="rules 1 and 3 of 'my_rate' both have no `op`"):
        spec.options().model_validate({"rules": {"my_rate": [rule, {**rule, "op": "below"}, rule]}})
    spec.options().model_validate({"rules": {"my_rate": [rule, {**rule, "op": "below"}]}})
