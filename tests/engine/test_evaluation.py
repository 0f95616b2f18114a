"""Evaluation: arms over the same items, journaled, scored, compared, and not asked twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.engine.arms import Arm, run_arm
from nexa_core.engine.evaluation import Evaluation, evaluate
from nexa_core.engine.items import Items, read_items
from nexa_core.engine.scoring import RuleScoring
from nexa_core.engine.tries import Line
from nexa_core.errors import SourceError, TooManyFailuresError
from nexa_core.pipeline import Role
from nexa_core.prompts import Prompt
from nexa_core.records import Completion, Request, Usage
from nexa_core.store.money import read_evaluation_money
from nexa_core.testing.models import ScriptedModel
from nexa_eval.options import AnswerOptions
from nexa_eval.scorers import Contains

ITEMS = Items(
    "capitals",
    tuple({"id": f"i{n}", "instruction": f"Double {n}?", "answer": str(2 * n)} for n in range(40)),
)
PLAIN = Prompt("packaged", "{{ prompt }}\n", api="completions", inputs=("prompt",))


def answer_right(below: int) -> Callable[[Request], str]:
    """A model that doubles right up to a number."""

    def answer(request: Request) -> str:
        number = int(str(request.prompt).split()[1].rstrip("?\n"))
        return f"It is {2 * number if number < below else 'unknown'}.\nAnd so on."

    return answer


def as_line(model: ScriptedModel) -> Line:
    """The model as an arm asks it."""
    return Line(model, Role(model="local/scripted"))


def make_arms(**right: int) -> list[Arm]:
    """Arms by name, each right on the items under a number."""
    models = {name: ScriptedModel(answer_right(below), None, 8) for name, below in right.items()}
    return [
        Arm(name.replace("_", "-"), as_line(model), PLAIN, 16) for name, model in models.items()
    ]


def run(arms: list[Arm], folder: Path, items: Items = ITEMS) -> Evaluation:
    scoring = RuleScoring("contains", Contains(AnswerOptions()))
    return asyncio.run(evaluate(items, arms, scoring, folder))


def test_tuned_is_compared_with_base_and_few_shot(tmp_path: Path) -> None:
    """Every item is asked once per arm, and both baselines are compared with the tuned model."""
    found = run(make_arms(base=2, base_few_shot=20, tuned=30), tmp_path)
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["arms"]["tuned"] == {"right": 30, "n": 40, "accuracy": 0.75, "failed": 0}
    pairs = {(c["arm_a"], c["arm_b"]): (c["b"], c["c"]) for c in written["comparisons"]}
    assert pairs["base", "tuned"] == (0, 28)
    assert pairs["base-few-shot", "tuned"] == (0, 10)
    summary = found.summarise(alpha=0.01)
    assert (summary["base"], summary["base_few_shot"], summary["better"]) == (0.05, 0.5, True)
    assert not found.summarise(alpha=1e-30)["better"]


def test_predictions_are_kept(tmp_path: Path) -> None:
    """A row per item says what was asked, answered and found; the raw calls lie beside it."""
    run(make_arms(base=2), tmp_path)
    row = pq.read_table(tmp_path / "predictions-base.parquet").to_pylist()[1]
    assert (row["id"], row["answer"], row["correct"], row["tokens"]) == ("i1", "2", True, 6)
    assert row["prediction"] == "It is 2.\nAnd so on."
    calls = pq.read_table(tmp_path / "calls-base.parquet")
    assert calls.num_rows == 40
    assert json.loads(calls["request"][0].as_py())["sampling"]["temperature"] == 0.0
    assert list(tmp_path.glob("*.journal")) == []


def test_a_finished_arm_is_not_asked_again(tmp_path: Path) -> None:
    """The same evaluation asks nothing; other items, prompts or token limits ask anew."""

    def fail(request: Request) -> Any:
        return RuntimeError("the server is down")

    first = run(make_arms(base=2), tmp_path)
    (arm,) = make_arms(base=2)
    silent = ScriptedModel(fail, None, 8)
    again = run([Arm("base", as_line(silent), PLAIN, 16)], tmp_path)
    assert again.as_json() == first.as_json()
    assert run([Arm("base", arm.line, PLAIN, 17)], tmp_path).max_tokens == 17
    with pytest.raises(TooManyFailuresError, match="40 of 40 items got no reply"):
        run([Arm("base", as_line(silent), PLAIN, 18)], tmp_path)


class Killed(BaseException):
    """What no error handling may catch."""


def test_a_killed_arm_replays_its_replies(tmp_path: Path) -> None:
    """Replies that were journaled before a kill are not paid for again."""
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.id)
        if len(asked) == 20:
            raise Killed
        return answer_right(99)(request)

    with pytest.raises(Killed):
        run([Arm("base", as_line(ScriptedModel(answer, None, None)), PLAIN, 16)], tmp_path)
    run([Arm("base", as_line(ScriptedModel(answer, None, None)), PLAIN, 16)], tmp_path)
    assert len(asked) <= 42
    assert len(set(asked)) == 40


def test_an_unanswered_item_counts_as_wrong(tmp_path: Path) -> None:
    """An error in place of a reply is no reason to leave the item out; it is counted."""

    def answer(request: Request) -> Any:
        return RuntimeError("too long") if "Double 1?" in str(request.prompt) else "It is 0."

    found = run([Arm("base", as_line(ScriptedModel(answer, None, 8)), PLAIN, 16)], tmp_path)
    assert found.as_json()["arms"]["base"] == {"right": 1, "n": 40, "accuracy": 0.025, "failed": 1}


class Rows:
    def __init__(self, *rows: Any) -> None:
        self._rows = rows

    def rows(self) -> Any:
        yield from self._rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "hold no row"),
        ([{"id": 1}], "no text under `instruction`"),
        ([{"id": 1, "instruction": "a"}, {"id": "1", "instruction": "b"}], "have the id '1'"),
        ([ValueError("line 1 is broken")], "line 1 is broken"),
    ],
)
def test_items_that_cannot_be_used(rows: list[Any], message: str) -> None:
    """No item, one without a question, two with one id, an unreadable one: each is an error."""
    with pytest.raises(SourceError, match=message):
        read_items("x", Rows(*rows))


async def test_what_an_arm_cost_before_is_not_forgotten(tmp_path: Path) -> None:
    """Asked again with other settings, it is paid for again, and both are counted."""
    bill = Completion("x", usage=Usage(1, 1, cost_nano=1_000))
    line = as_line(ScriptedModel(lambda request: bill))
    prompt = Prompt("p", "{{ prompt }}", inputs=("prompt",))
    scoring = RuleScoring("contains", Contains(AnswerOptions()))
    for tokens, paid in ((10, 1), (20, 2), (20, 2), (30, 3)):
        await run_arm(Arm("base", line, prompt, tokens), ITEMS, scoring, tmp_path)
        spent = read_evaluation_money(tmp_path).total
        assert spent == paid * 1_000 * len(ITEMS.rows)
