"""A judge as the scorer of an evaluation: asked through the engine, blind to the arm, its failures counted as wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import run_pipeline
from nexa_core.engine.arms import Arm
from nexa_core.engine.evaluation import Evaluation, evaluate
from nexa_core.engine.items import Items
from nexa_core.engine.scoring import JudgeScoring
from nexa_core.engine.steps.judge import SeatedJudge
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import NexaError, TooManyFailuresError, UnknownNameError
from nexa_core.pipeline import Role, pipeline_from
from nexa_core.prompts import Prompt, read_prompt
from nexa_core.records import Request
from nexa_core.report.evaluation import show_evaluation
from nexa_core.report.folder import read_folder
from nexa_core.specs import JudgeOrder
from nexa_core.store.money import read_note
from nexa_core.store.runs import open_run
from nexa_core.testing.chaos import Answer, Settings, serve_in_thread
from nexa_core.testing.models import ScriptedModel
from nexa_core.workspace import Workspace
from nexa_judges.rubric import RubricJudge

RUBRIC = read_prompt(Path(__file__).parents[2] / "prompts/judge/factual.md")
ITEMS = Items(
    "sums",
    tuple({"id": f"i{n}", "instruction": f"Double {n}?", "answer": str(2 * n)} for n in range(24)),
)
SERVED = ("chaos", "examiner")
PLAIN = Prompt("packaged", "{{ prompt }}\n", api="completions", inputs=("prompt",))


def make_arms(**says: Callable[[int], str]) -> list[Arm]:
    """Arms by name, each answering an item by its number."""

    def answer(say: Callable[[int], str]) -> Callable[[Request], str]:
        return lambda request: say(int(str(request.prompt).split()[1].rstrip("?\n")))

    line = {
        name: Line(ScriptedModel(answer(say), None, 8), Role(model=f"local/{name}"))
        for name, say in says.items()
    }
    return [Arm(name, each, PLAIN, 16) for name, each in line.items()]


def judge_by(reply: Callable[[Request], Any]) -> JudgeScoring:
    """The shipped rubric, asked of a script."""
    model = ScriptedModel(reply, None, None)
    order = JudgeOrder("evaluate", RUBRIC, ("judge",), "instruction", "prediction")
    callers = {"judge": Caller("evaluate", "judge", (Line(model, Role(model="vllm/judge")),))}
    seat = SeatedJudge("evaluate", RubricJudge(order), callers, {"judge": {"temperature": 0.0}}, 7)
    return JudgeScoring("judged by a script", seat, 0.8)


def read_answer(request: Request) -> str:
    """The text between the second pair of marks of a judge's prompt: the prediction."""
    return str(request.prompt[1].content).split("BEGINS]]\n")[2].split("\n[[")[0]


def verdict(value: float) -> str:
    scores = dict.fromkeys(RUBRIC.criteria, value)
    return json.dumps({"reason": "Because.", **scores, "flags": []})


def score_right(request: Request) -> str:
    """A judge that knows: 0.9 where the prediction says 'right'."""
    return verdict(0.9 if "right" in read_answer(request) else 0.79)


def run(arms: list[Arm], scoring: JudgeScoring, folder: Path) -> Evaluation:
    return asyncio.run(evaluate(ITEMS, arms, scoring, folder))


def test_right_is_what_reaches_the_threshold(tmp_path: Path) -> None:
    """Every prediction has its score and reason; 0.79 is wrong and 0.9 is right."""
    arms = make_arms(
        base=lambda n: f"right {n}" if n < 6 else f"wrong {n}",
        tuned=lambda n: f"right {n}" if n < 18 else f"wrong {n}",
    )
    found = run(arms, judge_by(score_right), tmp_path).as_json()
    assert (found["arms"]["base"]["right"], found["arms"]["tuned"]["right"]) == (6, 18)
    assert (found["comparisons"][0]["b"], found["comparisons"][0]["c"]) == (0, 12)
    row = pq.read_table(tmp_path / "predictions-tuned.parquet").to_pylist()[20]
    assert (row["prediction"], row["score"], row["correct"]) == ("wrong 20", 0.79, False)
    assert row["reason"] == "Because."


def test_the_judge_is_blind_to_the_arm(tmp_path: Path) -> None:
    """The requests of two arms differ in the prediction alone, and equal predictions are asked once."""
    asked: list[Request] = []

    def judge(request: Request) -> str:
        asked.append(request)
        return score_right(request)

    arms = make_arms(
        base=lambda n: f"right {n}" if n < 20 else f"from one {n}",
        tuned=lambda n: f"right {n}" if n < 20 else f"from two {n}",
    )
    found = run(arms, judge_by(judge), tmp_path).as_json()
    assert len(asked) == 28
    one, two = (
        [str(r.prompt).replace(which, "ARM") for r in asked if which in str(r.prompt)]
        for which in ("from one", "from two")
    )
    assert one == two and len(one) == 4
    assert not any(name in str(r.prompt) for r in asked for name in ("base", "tuned"))
    assert found["comparisons"][0]["b"] == found["comparisons"][0]["c"] == 0


def test_unscored_is_wrong_in_that_arm_and_counted(tmp_path: Path) -> None:
    """Three invalid replies are no score: the arm has one right fewer and says why."""

    def judge(request: Request) -> str:
        return "I would rather not." if "mumble" in read_answer(request) else verdict(1.0)

    arms = make_arms(base=lambda n: f"fine {n}", tuned=lambda n: "mumble" if n < 3 else f"good {n}")
    found = run(arms, judge_by(judge), tmp_path)
    assert found.as_json()["arms"]["tuned"] == {
        "right": 21, "n": 24, "accuracy": 21 / 24, "failed": 0, "unscored": 3,
    }  # fmt: skip
    assert found.summarise(0.05)["unscored"] == {"base": 0, "tuned": 3}
    row = pq.read_table(tmp_path / "predictions-tuned.parquet").to_pylist()[0]
    assert (row["score"], row["correct"], row["error"]) == (None, False, None)
    assert "no valid reply" in row["reason"]


def test_a_judge_that_cannot_be_asked_is_no_verdict(tmp_path: Path) -> None:
    """Calls that fail are failures, and too many of them end the evaluation: nobody was wrong."""

    def judge(request: Request) -> Any:
        return RuntimeError("the judge is down") if "0" in read_answer(request) else verdict(1.0)

    with pytest.raises(TooManyFailuresError, match=r"not judged: .*the judge is down"):
        run(make_arms(base=lambda n: f"fine {n}"), judge_by(judge), tmp_path)


class Killed(BaseException):
    """What no error handling may catch."""


def test_a_killed_evaluation_pays_for_no_judgement_twice(tmp_path: Path) -> None:
    """Judgements that were journaled before a kill are replayed, and the finished arm is read back."""
    asked: list[str] = []

    def judge(request: Request) -> str:
        asked.append(request.id)
        if len(asked) == 30:
            raise Killed
        return score_right(request)

    arms = make_arms(base=lambda n: f"right {n}", tuned=lambda n: f"so right {n}")
    with pytest.raises(Killed):
        run(arms, judge_by(judge), tmp_path)
    again = run(arms, judge_by(judge), tmp_path)
    assert len(set(asked)) == 48 and len(asked) <= 48 + 2
    assert again.as_json()["arms"]["tuned"]["right"] == 24
    whole = run(arms, judge_by(judge), tmp_path / "whole")
    assert whole.as_json() == again.as_json()


@pytest.fixture
def start(workspace: Workspace) -> Callable[..., Any]:
    """Run a teacher over ten rows, then evaluate it with and without examples, by a judge."""

    def begin(url: str, **changes: Any) -> Any:
        prompts = workspace.root / "prompts" / "eval"
        prompts.mkdir(parents=True, exist_ok=True)
        head = "---\nname: eval/few_shot\nversion: 1\ninputs: [instruction]\n---\n"
        (prompts / "few_shot.md").write_text(f"{head}Example.\n{{{{ instruction }}}}")
        rows = [{"id": f"q{n}", "prompt": f"What is {n}?"} for n in range(10)]
        items = [{"id": f"i{n}", "instruction": f"Which is {n}?"} for n in range(12)]
        for name, content in {"rows": rows, "items": items}.items():
            text = "\n".join(map(json.dumps, content))
            (workspace.root / f"{name}.jsonl").write_text(text)
        role = {"model": "vllm/chaos", "base_url": url, "price": {"input": 0.1, "output": 0.4}}
        judged = {"judged": {"model": "examiner", "rubric": "judge/factual"}}
        pipeline: dict[str, Any] = {
            "nexa": 1,
            "name": "judged",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {
                "teacher": {**role, "sampling": {"max_tokens": 100}},
                "examiner": {**role, "model": "vllm/examiner"},
            },
            "steps": [
                {"generate": {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}}
            ],
            "scale": {"rows": "all"},
            "budget": {"usd": 5},
            "package": {"format": "messages"},
            "evaluate": {
                "items": "items.jsonl", "scorer": judged, "arms": ["base", "base-few-shot"],
            },
            **changes,
        }  # fmt: skip
        path = workspace.root / "judged.yaml"
        path.write_text(json.dumps(pipeline))
        return run_pipeline(path, workspace=workspace, run_id="j")

    return begin


def test_a_run_pays_and_journals_its_judge(start: Any, workspace: Workspace) -> None:
    """The judge's money is its role's, within the budget; its calls lie beside the predictions."""
    with serve_in_thread(Settings(models=SERVED, approval=0.5)) as server:
        outcome = start(server.url)
        run_path = workspace.artifacts_path / "j"
        calls = pq.read_table(run_path / "evaluation/calls-base.parquet").to_pylist()
        told = sum(entry.bill for entry in server.log)
    judged = [call for call in calls if call["role"] == "examiner"]
    assert len(judged) == 12 and {call["step"] for call in judged} == {"evaluate"}
    note = read_note(run_path / "evaluation/evaluation-base.spent")
    assert note.settled["examiner"] == sum(call["cost_nano"] for call in judged) > 0
    assert outcome.spent.settled["examiner"] >= note.settled["examiner"]
    assert outcome.spent.total <= 5 * 10**9 and told > 0
    written = json.loads((run_path / "evaluation/comparison.json").read_text())
    assert written["scorer"].startswith('judged {"at_least": 0.8, "models": ["vllm/examiner at ')
    assert written["warnings"] == []
    rows = pq.read_table(run_path / "evaluation/predictions-base.parquet").to_pylist()
    assert all(row["correct"] == (row["score"] >= 0.8) for row in rows)


def test_one_judge_for_both_is_flagged_everywhere(start: Any, workspace: Workspace) -> None:
    """In the pipeline's warnings, in the comparison and in the report."""
    step = {"generate": {"id": "answer", "model": "teacher", "prompt": {"user": "{{ prompt }}"}}}
    judge = {"judge": {"id": "factual", "model": "examiner", "rubric": "judge/factual"}}
    with serve_in_thread(Settings(models=SERVED, approval=1.0)) as server:
        outcome = start(server.url, steps=[step, judge])
    told = "'vllm/examiner' filters the training data and judges the evaluation"
    run = open_run(workspace.artifacts_path, "j")
    warnings = [line for line in run.events_path.read_text().splitlines() if told in line]
    assert "WarningRaised" in warnings[0]
    assert told in json.loads((run.evaluation / "comparison.json").read_text())["warnings"][0]
    assert told in outcome.as_json()["evaluation"]["warnings"][0]
    view = show_evaluation(read_folder(run, workspace.reviews_path / "j"))
    assert view is not None and told in view.notes[0]
    assert told in Path(outcome.results["report"]).read_text().replace("&#39;", "'")


def declare(**changes: Any) -> dict[str, Any]:
    """A pipeline with a judged evaluation, as values."""
    return {
        "nexa": 1,
        "name": "p",
        "source": {"path": "rows.jsonl"},
        "models": {"t": {"model": "vllm/t"}, "j": {"model": "vllm/j"}},
        "steps": [{"generate": {"id": "answer", "model": "t", "prompt": {"user": "hi"}}}],
        "scale": {"accepted": 100},
        "package": {"validation": 0.1},
        "evaluate": {
            "holdout": 10,
            "scorer": {"judged": {"model": "j", "rubric": "judge/factual"}},
        },
        **changes,
    }


def test_a_judged_scorer_survives_being_stored() -> None:
    """What run.json holds is the same pipeline again, and its judge is one of the roles that are used."""
    pipeline = pipeline_from(declare())
    assert pipeline_from(pipeline.resolved()).hash == pipeline.hash
    assert pipeline.scoring is not None and pipeline.scoring.roles == ("j",)
    assert pipeline.warnings == ()


def test_a_holdout_that_cannot_be_is_told() -> None:
    """More items than the validation split will hold is a warning before anything is paid."""
    (warning,) = pipeline_from(declare(scale={"accepted": 50})).warnings
    assert "evaluate.holdout is 10" in warning and "5 of 50 rows" in warning


@pytest.mark.parametrize(
    ("judged", "error"),
    [
        ({"model": "nobody", "rubric": "judge/factual"}, UnknownNameError),
        ({"model": "j"}, NexaError),
        ({"model": "j", "rubric": "judge/factual", "at_least": 2}, NexaError),
    ],
)
def test_a_judge_that_cannot_score_is_an_error(judged: dict[str, Any], error: type) -> None:
    """A role that is not there, no rubric, a threshold that no score reaches."""
    with pytest.raises(error):
        pipeline_from(declare(evaluate={"holdout": 10, "scorer": {"judged": judged}}))


def test_a_judge_may_read_the_items_own_answer(start: Any, workspace: Workspace) -> None:
    """A rubric with `reference` is given it; one with another column is refused before any call."""
    folder = workspace.root / "prompts" / "judge"
    folder.mkdir(parents=True)
    text = (Path(__file__).parents[2] / "prompts/judge/factual.md").read_text()
    for name in ("reference", "elsewhere"):
        changed = text.replace("name: judge/factual", f"name: judge/{name}")
        changed = changed.replace("[question, answer]", f"[question, answer, {name}]")
        (folder / f"{name}.md").write_text(f"{changed}\nIt is said: {{{{ {name} }}}}")
    given = Answer(verdict(1.0), "It is said")

    def judged_by(rubric: str) -> dict[str, Any]:
        scorer = {"judged": {"model": "examiner", "rubric": f"judge/{rubric}"}}
        return {"items": "items.jsonl", "arms": ["base"], "scorer": scorer}

    with serve_in_thread(Settings(models=SERVED, answers=(given,))) as server:
        with pytest.raises(NexaError, match="needs 'elsewhere'"):
            start(server.url, evaluate=judged_by("elsewhere"))
        assert server.stats.requests == 0
        outcome = start(server.url, evaluate=judged_by("reference"))
    assert outcome.as_json()["evaluation"]["base"] == 1.0
