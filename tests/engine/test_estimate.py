"""What an estimate says, held against runs of the same pipeline and against its own arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.actions.estimating import estimate, estimate_plan
from nexa_core.engine.binding import bind
from nexa_core.engine.estimate import Assumptions, measure_run, read_assumptions
from nexa_core.engine.estimate.rows import trace_rows
from nexa_core.errors import UsageError
from nexa_core.pipeline import pipeline_from
from nexa_core.plugins import load_plugins
from nexa_core.store.runs import Run, open_run
from nexa_core.workspace import Workspace

PRICE = {"input": 100.0, "output": 200.0}
ROWS = [{"id": f"r{n}", "question": "why " * (n % 7 + 1)} for n in range(60)]


@pytest.fixture
def work_out(workspace: Workspace, write_rows: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Estimates a pipeline given as Python values, over sixty rows."""
    write_rows(ROWS)
    plugins = load_plugins(workspace, announce=lambda text: None)

    def run(pipeline: dict[str, Any], *assume: str, rows: int = 200) -> dict[str, Any]:
        plan, source = bind(pipeline_from(pipeline), workspace, plugins)
        steps = [step.id for step in plan.pipeline.steps if hasattr(step, "model")]
        return estimate_plan(plan, source, read_assumptions(assume, steps), rows)

    return run


@pytest.fixture
def paid(answering: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The tests' pipeline with a price, collecting every row."""

    def make(**changes: Any) -> dict[str, Any]:
        models = {"m": {"model": "scripted/one", "api": "completions", "price": PRICE}}
        steps = answering()["steps"][:1]
        steps[0]["generate"]["sampling"] = {"temperature": 0.2, "max_tokens": 20}
        usual = {"models": models, "steps": steps, "accept": None, "pilot": {"rows": "all"}}
        return answering(**{**usual, **changes})

    return make


def test_the_estimate_of_a_whole_source_is_its_bill(run: Any, paid: Any, work_out: Any) -> None:
    """Where every row is asked and answers have the assumed length, not a nano-dollar is between."""
    found = work_out(paid(), "answer.tokens=8")
    made = run(paid()).as_json()
    assert found["calls"] == made["calls"]["asked"] == 60
    assert found["usd"] == pytest.approx(made["cost_usd"], abs=1e-9) and found["usd"] > 0
    assert found["accepted_rows"] == made["rows"]["accepted"] == 60


def test_an_earlier_run_says_what_nobody_set(
    run: Any, paid: Any, work_out: Any, workspace: Workspace
) -> None:
    """Its lengths and its acceptance at first attempts are taken; what somebody set stands."""
    pipeline = paid(steps=None)
    pipeline["steps"] = [*paid()["steps"], {"check": [{"length": {"min_tokens": 9}}]}]
    pipeline["steps"][0]["generate"]["sampling"] = {"temperature": 1.0, "max_tokens": 20}
    made = run(pipeline, "before")
    accepted = made.as_json()["rows"]["accepted"]
    plan, _ = bind(pipeline_from(pipeline), workspace, load_plugins(workspace, announce=print))
    found = measure_run(made_run(workspace, "before"), plan, Assumptions())
    assert (found.acceptance, found.tokens) == (accepted / 60, {"answer": 8})
    assert found.measured == {"acceptance", "answer.tokens"} and 0 < accepted < 60
    given = read_assumptions(["answer.tokens=5"], ["answer"])
    assert measure_run(made_run(workspace, "before"), plan, given).tokens == {"answer": 5}


def made_run(workspace: Workspace, name: str) -> Run:
    return open_run(workspace.artifacts_path, name)


def test_a_sample_stands_for_the_rest(paid: Any, work_out: Any) -> None:
    """Ten rows of sixty give the price of all within their own interval."""
    whole, part = work_out(paid()), work_out(paid(), rows=10)
    [step] = part["steps"]
    mean = whole["steps"][0]["prompt_tokens"]["mean"]
    assert part["sampled_rows"] == 10 and part["calls"] == 60
    assert step["prompt_tokens"]["low"] <= mean <= step["prompt_tokens"]["high"]


def test_later_steps_read_answers_of_the_expected_length(
    paid: Any, run: Any, work_out: Any
) -> None:
    """The critic's prompt holds a stand-in for the answer, and it asks twice."""
    critic = {}
    for tokens in (5, 15):
        found = work_out(_with_critic(paid), f"answer.tokens={tokens}")
        _, critic[tokens] = found["steps"]
    assert critic[5]["calls_per_row"] == 2
    grown = critic[15]["prompt_tokens"]["mean"] - critic[5]["prompt_tokens"]["mean"]
    assert grown == pytest.approx(10, abs=1)


def _with_critic(paid: Any) -> dict[str, Any]:
    made = paid(accept={"good": {"at_least": 0.5}})
    made["steps"] = [
        *made["steps"],
        {"critic": {"id": "good", "model": "m", "prompt": "critic/judge"}},
    ]
    return made


def test_an_unknown_price_is_not_zero(paid: Any, work_out: Any) -> None:
    """It is unknown, makes the whole unknown, and the words say what to write where."""
    found = work_out(paid(models={"m": {"model": "scripted/batch"}}))
    assert found["usd"] is None and found["usd_per_accepted_row"] is None
    assert any("`models.m` as `price: {input" in warning for warning in found["warnings"])


def test_nothing_is_asked(paid: Any, work_out: Any, workspace: Workspace) -> None:
    """Not one request goes out."""
    work_out(_priced_gate(paid))
    assert not (workspace.root / "asked.log").exists()


def _priced_gate(paid: Any, **changes: Any) -> dict[str, Any]:
    usual = {"pilot": {"rows": 20, "max_iterations": 3}, "scale": {"accepted": 30}}
    return paid(**{**usual, **changes})


def test_a_budget_too_small_says_what_it_buys(paid: Any, work_out: Any) -> None:
    """Wanting only the rows that it buys, the run fits."""
    unlimited = work_out(paid(pilot=None, scale={"accepted": 50}))
    budget = {"usd": unlimited["usd"] / 2}
    short = work_out(paid(pilot=None, scale={"accepted": 50}, budget=budget))["budget"]
    assert short["fits"] is False and 20 <= short["accepted_rows"] <= 25
    fitting = {"accepted": short["accepted_rows"]}
    assert work_out(paid(pilot=None, scale=fitting, budget=budget))["budget"]["fits"] is True


def test_a_source_too_small_is_said(paid: Any, work_out: Any) -> None:
    """Sixty rows cannot give a hundred accepted ones."""
    found = work_out(paid(pilot=None, scale={"accepted": 100}))
    assert found["accepted_rows"] == 60
    assert any("the source has no more rows" in warning for warning in found["warnings"])


def test_batches_cost_what_the_book_says(paid: Any, work_out: Any) -> None:
    """`batch: true` halves the price of a model whose provider halves it, and may take a day."""
    costs = {}
    for batch in (False, True):
        model = {"model": "openai/gpt-4o-mini", "sampling": {"max_tokens": 20}, "batch": batch}
        found = work_out(_chat(paid, model))
        costs[batch] = found["usd"]
    assert costs[True] == pytest.approx(costs[False] / 2)
    assert found["seconds"] == 86_400


def test_a_dearer_fallback_counts_in_the_most(paid: Any, work_out: Any) -> None:
    """It does not change what is expected; where its price is unknown, so is the most."""
    cheap = {"model": "openai/gpt-4o-mini", "sampling": {"max_tokens": 20}}
    alone, dear, unknown = (
        work_out(_chat(paid, {**cheap, "fallbacks": fallbacks}))
        for fallbacks in ([], ["openai/gpt-4o"], ["openai/unheard-of"])
    )
    assert alone["usd"] == dear["usd"] == unknown["usd"]
    assert dear["usd_most"] > 10 * alone["usd_most"] and unknown["usd_most"] is None
    assert any("fallback 'openai/unheard-of'" in warning for warning in unknown["warnings"])


@pytest.mark.parametrize("tokens", [20_000, 200_000])
def test_what_a_model_cannot_give_is_said(paid: Any, work_out: Any, tokens: int) -> None:
    """The price book knows how long an answer may be: 16,384 tokens."""
    model = {"model": "openai/gpt-4o-mini"}
    pipeline = _chat(paid, model)
    pipeline["steps"][0]["generate"]["sampling"] = {"max_tokens": tokens}
    assert any("longer than" in warning for warning in work_out(pipeline)["warnings"])


@pytest.mark.parametrize("acceptance", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("scale", [None, {"rows": "all"}, {"accepted": 10}, {"accepted": 500}])
def test_no_expectation_is_above_the_most(
    paid: Any, work_out: Any, acceptance: float, scale: Any
) -> None:
    """Rows, calls and dollars, in every phase and role, whatever is assumed."""
    pipeline = paid(scale=scale, pilot={"rows": 20}, accept={"retry": {"step": "answer"}})
    pipeline["steps"] = [*pipeline["steps"], {"check": ["empty"]}]
    found = work_out(pipeline, f"acceptance={acceptance}")
    for sums in (found, *found["phases"], *found["roles"]):
        assert sums["calls"] <= sums["calls_most"] and sums["usd"] <= sums["usd_most"]
    assert all(phase["rows"] <= phase["rows_most"] <= 60 for phase in found["phases"])


def _chat(paid: Any, model: dict[str, Any]) -> dict[str, Any]:
    made = paid(models={"m": model})
    step = {**made["steps"][0]["generate"], "prompt": {"user": "{{ question }}"}}
    return {**made, "steps": [{"generate": step}]}


@given(st.floats(0.05, 1.0), st.integers(1, 4))
def test_retries_are_counted_by_what_was_rejected(acceptance: float, attempts: int) -> None:
    """Of a row, 1 + q + q² … visits; accepted in the end is what some attempt accepted."""
    steps = [
        {"generate": {"id": "answer", "model": "m", "prompt": {"text": "x"}}},
        {"check": ["empty"]},
    ]
    accept = {"retry": {"step": "answer", "attempts": attempts}}
    models = {"m": {"model": "scripted/one", "api": "completions"}}
    flow = trace_rows(
        _Bare({"nexa": 1, "name": "x", "models": models, "steps": steps, "accept": accept}),
        Assumptions(acceptance=acceptance),
    )
    q = 1 - acceptance
    assert flow.visits["answer", False] == 1
    assert flow.visits["answer", True] == pytest.approx(sum(q**n for n in range(1, attempts + 1)))
    assert flow.acceptance == pytest.approx(1 - q ** (attempts + 1))
    assert flow.most_visits["answer", True] == attempts


class _Bare:
    """As much of a plan as rows need."""

    def __init__(self, values: dict[str, Any]) -> None:
        from nexa_core.engine.steps.accepting import accept_rule_of

        self.pipeline = pipeline_from(values)
        self.accept_rule = accept_rule_of(self.pipeline)
        self.retry = self.pipeline.accept.retry if self.pipeline.accept else None


@pytest.mark.parametrize(
    "text", ["acceptance=2", "acceptance=0", "answer.tokens=x", "nothing=1", "answer.tokens=0"]
)
def test_an_assumption_that_cannot_be_is_refused(text: str) -> None:
    """The message says what is assumed at all, or what the name takes."""
    with pytest.raises(UsageError) as caught:
        read_assumptions([text], ["answer"])
    assert text in caught.value.problem and caught.value.fix


def test_the_shipped_pipeline_is_estimated_without_a_key(
    workspace_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`distill` has a price, fits its budget, and is bounded; JSON holds all of it."""
    from nexa_core.workspace import find_workspace

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = estimate("distill", workspace=find_workspace(workspace_path))
    assert json.loads(json.dumps(found)) == found
    assert found["budget"]["fits"] and 0 < found["usd"] <= found["usd_most"]
    assert found["pilot"]["rows_first"] <= found["pilot"]["rows_expected"]
