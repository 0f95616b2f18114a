"""`nexa evaluate MODEL`: models without a run, asked the same items by the same engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.testing.chaos import Answer, ChaosServer, Settings, hash_prompt, serve_in_thread

ITEMS = 12
MODELS = ("one", "two", "judge")
JUDGED = {"judged": {"model": "judge", "rubric": "judge/factual"}}


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """Models that know every even item; half of all verdicts approve."""
    known = tuple(
        Answer(f"It is {n}.", prompt_hash=hash_prompt(f"Item {n}?")) for n in range(0, ITEMS, 2)
    )
    with serve_in_thread(Settings(models=MODELS, answers=known, approval=0.5)) as running:
        yield running


@pytest.fixture
def pipeline(workspace_path: Path, server: ChaosServer) -> str:
    """A file whose roles, budget and evaluation are taken, and nothing else of it."""
    rows = ({"id": n, "instruction": f"Item {n}?", "answer": str(n)} for n in range(ITEMS))
    (workspace_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    role = {"base_url": server.url, "price": {"input": 1, "output": 4}}
    whole: dict[str, Any] = {
        "nexa": 1,
        "name": "compare",
        "source": {"path": "elsewhere.jsonl"},
        "models": {name: {**role, "model": f"vllm/{name}"} for name in (*MODELS, "idle")},
        "steps": [{"generate": {"id": "answer", "model": "idle", "prompt": {"user": "hi"}}}],
        "budget": {"usd": 1},
        "evaluate": {"items": "items.jsonl", "max_tokens": 20},
    }
    (workspace_path / "compare.yaml").write_text(json.dumps(whole))
    return "compare.yaml"


def test_two_models_are_compared(pipeline, invoke, server, golden):
    """Roles of a file on its items: the same items, the paired test, the money, and nothing twice."""
    asked = ("evaluate", "one", "two", "--pipeline", pipeline)
    found = json.loads(invoke(*asked, "--json").out)
    assert {name: (arm["right"], arm["n"]) for name, arm in found["arms"].items()} == {
        "one": (6, 12),
        "two": (6, 12),
    }
    (pair,) = found["comparisons"]
    assert (pair["arm_a"], pair["arm_b"], pair["a"], pair["d"]) == ("one", "two", 6, 6)
    assert found["max_tokens"] == 20 and found["cost_usd"] > 0 and found["warnings"] == []
    before = server.stats.requests
    again = invoke(*asked)
    assert again.code == 0 and server.stats.requests - before <= 2  # the preflight's lists
    shown = again.out.replace(found["folder"], "FOLDER")
    golden("evaluate-models.txt", shown)


def test_an_evaluation_says_how_it_stands_to_a_registered_plan(pipeline, invoke, workspace_path):
    """Exploratory where no run registered a plan; as one that did, or with what differs."""
    asked = ("evaluate", "one", "--pipeline", pipeline, "--json")
    (mark,) = json.loads(invoke(*asked).out)["marks"]
    assert mark.startswith("exploratory: no plan is on record")
    whole = json.loads((workspace_path / "compare.yaml").read_text())
    (workspace_path / "rows.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(30)))
    whole |= {"source": {"path": "rows.jsonl"}, "scale": {"rows": "all"}}
    whole |= {"package": {"format": "messages", "prompt": "id"}}
    written = {"into": "response", "sampling": {"max_tokens": 20}}
    whole["steps"][0]["generate"] |= {"model": "two", **written}
    whole["evaluate"]["arms"] = ["base"]
    (workspace_path / "run.yaml").write_text(json.dumps(whole))
    assert invoke("run", "run.yaml", "--run-id", "planned").code == 0
    found = json.loads(invoke(*asked).out)
    (mark,) = found["marks"]
    assert mark.startswith("as the plan that run 'planned' registered")
    assert json.loads((Path(found["folder"]) / "comparison.json").read_text())["marks"] == [mark]
    other = ("--scorer", "exact", "--set", "evaluate.alpha=0.01")
    (mark,) = json.loads(invoke(*asked, *other).out)["marks"]
    assert "scored by exact where contains was registered; alpha 0.01 where 0.05" in mark
    record = next((workspace_path / "reviews" / "planned").glob("*evaluation_plan.json"))
    record.write_text(record.read_text().replace('"contains"', '"exact"'))
    (mark,) = json.loads(invoke(*asked, *other).out)["marks"]
    assert mark.startswith("exploratory")


def test_a_judge_scores_models(pipeline, invoke):
    """The judge is a role of the file, asked through the engine; its verdicts lie beside the predictions."""
    asked = ("evaluate", "one", "two", "--pipeline", pipeline, "--scorer", json.dumps(JUDGED))
    found = json.loads(invoke(*asked, "--json").out)
    arm = found["arms"]["one"]
    assert arm["unscored"] == 0 and found["scorer"].startswith("judged {")
    calls = pq.read_table(Path(found["folder"]) / "calls-one.parquet").to_pylist()
    assert sorted({call["role"] for call in calls}) == ["judge", "one"] and len(calls) == 24
    rows = pq.read_table(Path(found["folder"]) / "predictions-one.parquet").to_pylist()
    assert sum(row["score"] >= 0.8 for row in rows) == arm["right"]


def test_a_model_that_judges_itself_is_flagged(pipeline, invoke):
    """On stderr before it begins, and in the comparison for ever."""
    scorer = json.dumps({"judged": {"model": "one", "rubric": "judge/factual"}})
    done = invoke("evaluate", "one", "two", "--pipeline", pipeline, "--scorer", scorer, "--json")
    told = "'vllm/one' is evaluated and judges the evaluation"
    assert told in done.err.replace("\n", " ")
    assert told in json.loads(done.out)["warnings"][0]


def test_a_model_is_named_by_reference(pipeline, invoke, server):
    """Without a file: a reference, items and a scorer; settings by --set."""
    done = invoke(
        *("evaluate", "vllm/two", "--items", "items.jsonl", "--scorer", "{contains: {lines: all}}"),
        *("--set", f"models.model_1.base_url={server.url}", "--json"),
    )
    found = json.loads(done.out)
    assert found["arms"]["vllm-two"]["right"] == 6
    assert found["scorer"] == 'contains {"lines": "all"}'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("openai/m",), "No items are named"),
        (("nobody", "--pipeline", "compare.yaml"), "No model role is called 'nobody'"),
        (("one", "one", "--pipeline", "compare.yaml"), "named twice"),
        (("one", "--pipeline", "compare.yaml", "--items", "gone.jsonl"), "gone.jsonl"),
        (("one", "two"), "Name one RUN"),
        (("--pipeline", "compare.yaml"), "Name the models"),
    ],
)
def test_what_cannot_be_evaluated(pipeline, invoke, server, arguments, told):
    """Exit 2, with what was asked and what would work, and nobody was asked."""
    done = invoke("evaluate", *arguments)
    assert done.code == 2 and told in done.err
    assert not any(entry.path.endswith("/completions") for entry in server.log)


def test_the_budget_of_the_file_holds(pipeline, invoke, workspace_path):
    """An evaluation that would cost more ends with exit 6, and goes on where more is given."""
    asked = ("evaluate", "one", "two", "--pipeline", pipeline, "--json")
    spent = invoke(*asked, "--set", "budget.usd=0.0006")
    assert spent.code == 6 and "budget" in spent.err + spent.out
    whole = invoke(*asked)
    assert whole.code == 0 and json.loads(whole.out)["n"] == ITEMS
