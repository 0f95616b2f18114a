"""What `--reuse` prints before it asks is what it asks: another judge, another threshold, another rubric."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nexa_core.testing.chaos import ChaosServer, Settings, serve_in_thread

ROWS = 20
PIPELINE = """\
nexa: 1
name: judged
source: {{path: rows.jsonl, id: id}}
models:
  teacher:  {{model: vllm/teacher, base_url: "{url}", sampling: {{max_tokens: 60}}, price: {{input: 1, output: 4}}}}
  examiner: {{model: vllm/examiner, base_url: "{url}", price: {{input: 1, output: 4}}}}
  other:    {{model: vllm/other, base_url: "{url}", price: {{input: 1, output: 4}}}}
steps:
  - generate: {{id: answer, model: teacher, prompt: {{user: "{{{{ prompt }}}}"}}, into: response}}
  - judge: {{id: factual, model: examiner, rubric: judge/factual}}
  - judge: {{id: reasoning, model: examiner, rubric: judge/reasoning}}
accept: {accept}
scale: {{rows: all, shard_rows: 5}}
budget: {{usd: 5}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    """Three models at one address; half of all verdicts approve."""
    with serve_in_thread(
        Settings(models=("teacher", "examiner", "other"), approval=0.5)
    ) as running:
        yield running


@pytest.fixture
def judged(workspace_path: Path, server: ChaosServer, invoke):
    """Runs the pipeline as a user does; its exit code, its plan in words, and what it asked by step."""
    lines = (json.dumps({"id": n, "prompt": f"What is {n}?"}) for n in range(ROWS))
    (workspace_path / "rows.jsonl").write_text("\n".join(lines))

    def run(name: str, *arguments: str, accept: str = "{min_score: 0.8, eager: false}"):
        path = workspace_path / "judged.yaml"
        path.write_text(PIPELINE.format(url=server.url, accept=accept))
        before = completions(server)
        done = invoke("run", str(path), "--run-id", name, "--json", *arguments)
        assert done.code == 0, done.err
        asked = completions(server) - before
        found = json.loads(done.out)
        assert found["calls"]["asked"] == asked
        plan = read_plan(done.err) if "--reuse" in arguments else {}
        return plan, ask_steps(workspace_path / "artifacts" / name), found

    return run


@pytest.fixture
def one(begin, judged):
    """What was found of a run `one`, in which every score was asked for."""
    return begin("one", lambda: judged("one")[2])


def completions(server: ChaosServer) -> int:
    return sum(entry.path.endswith("/completions") for entry in server.log)


def read_plan(told: str) -> dict[str, tuple[int, int]]:
    """Reused and to ask by role, from the line that is printed before the first call."""
    (line,) = (line for line in told.splitlines() if " plan: " in line)
    _, _, words = line.partition(" plan: ")
    assert not words.startswith("≈"), "the plan is exact"
    plan = {}
    for part in words.split(" · "):
        counts = {kind: number for number, kind in re.findall(r"(\d+) (reused|to ask)", part)}
        plan[part.split()[0]] = (int(counts.get("reused", 0)), int(counts.get("to ask", 0)))
    return plan


def ask_steps(run: Path) -> Counter[str]:
    """Calls that were really asked, by step."""
    files = run.glob("scale/shards/*.calls.parquet")
    calls = [call for path in files for call in pq.read_table(path).to_pylist()]
    return Counter(call["step"] for call in calls if call["origin"] == "asked")


def test_another_judge_asks_that_judge_alone(one, judged) -> None:
    """Verdicts of the new model; the teacher and the other judge are not asked again."""
    plan, asked, _ = judged("two", "--reuse", "one", "--set", "factual.model=other")
    assert plan == {"teacher": (ROWS, 0), "other": (0, ROWS), "examiner": (ROWS, 0)}
    assert asked == {"factual": ROWS}


def test_another_rubric_asks_its_judge_alone(one, judged, workspace_path: Path) -> None:
    """One word of a rubric file changed: every verdict by it, and none by the other."""
    rubric = workspace_path / "prompts" / "judge" / "reasoning.md"
    rubric.write_text(rubric.read_text().replace("You are strict and fair.", "You are strict."))
    plan, asked, _ = judged("two", "--reuse", "latest")
    assert plan == {"teacher": (ROWS, 0), "examiner": (ROWS, ROWS)}
    assert asked == {"reasoning": ROWS}


def test_another_threshold_asks_nothing_where_all_was_scored(one, judged) -> None:
    """Every score is there, so the plan is none to ask, and fewer rows are accepted."""
    plan, asked, second = judged("two", "--reuse", "one", "--set", "accept.min_score=0.95")
    assert plan == {"teacher": (ROWS, 0), "examiner": (2 * ROWS, 0)} and not asked
    assert second["rows"]["accepted"] < one["rows"]["accepted"]
    assert second["cost_usd"] == 0


def test_a_lower_threshold_asks_for_the_rows_it_lets_pass(judged) -> None:
    """Where the first judge's rejection spared the second, exactly those verdicts are planned and asked."""
    strict = "{factual: {at_least: 0.8}, reasoning: {at_least: 0.8}}"
    _, first, _ = judged("one", accept=strict)
    changed = ("--set", "accept.factual.at_least=0.1")
    plan, asked, _ = judged("two", "--reuse", "one", *changed, accept=strict)
    assert 0 < first["reasoning"] < ROWS
    assert plan["teacher"] == (ROWS, 0)
    assert plan["examiner"][0] == ROWS + first["reasoning"]
    assert 0 < asked["reasoning"] == plan["examiner"][1] and asked.keys() == {"reasoning"}
