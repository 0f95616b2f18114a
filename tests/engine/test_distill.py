"""The shipped `distill`, whole, on recorded answers: a base model stopped, a tuned one kept, no score invented."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core import mark_data
from nexa_core.actions.running import run_pipeline
from nexa_core.engine.campaign import Outcome
from nexa_core.testing.chaos import Answer, Faults, Settings, serve_in_thread
from nexa_core.workspace import find_workspace
from nexa_judges.verdicts import InvalidReplyError, Verdicts

SHARED = Path(
    os.environ.get("NEXA_CORE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason=f"no recorded answers at {SHARED}"),
]
CRITERIA = {
    "factual": ("accuracy", "mechanism", "relevance"),
    "reasoning": ("reasoning", "methodology", "calibration"),
}
FLAGS = {"factual": ("safety", "invented_source"), "reasoning": ("safety", "unfalsifiable")}
CHECKS = (
    "[truncated, refusal, repetition, {length: {min_chars: 120, min_tokens: 80}}, no_citations]"
)
"""The shipped ones without action_verbs: these questions are everybody's, not a science's."""


@dataclass(frozen=True)
class Recorded:
    """A question, what a model answered, and what is said of the answer, 0 to 1; None: no verdict."""

    question: str
    answer: str
    quality: float | None


def read(name: str) -> list[dict[str, Any]]:
    lines = (SHARED / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_base() -> list[Recorded]:
    """252 completions of the raw GPT-3; the judges dislike what the checks let pass."""
    rows = read("self_instruct/davinci.jsonl")
    return [Recorded(row["prompt"], row["response"], 0.3) for row in rows]


def read_tuned() -> list[Recorded]:
    """805 answers of GPT-4; where the recorded judge preferred the other model's, they get 0.6.

    One in a hundred gets a number in a sentence at every ask, which is no verdict.
    """
    rows = read("alpaca_eval/claude-2.1.jsonl")
    quality = [0.95 if row["preference"] < 1.5 else 0.6 for row in rows]
    return [
        Recorded(row["instruction"], row["output_1"], None if n % 100 == 50 else quality[n])
        for n, row in enumerate(rows)
    ]


def tell_verdicts(rows: Sequence[Recorded]) -> Iterator[Answer]:
    """Each judge's verdict on each answer, found by the question and by the judge's own criteria."""
    for row in rows:
        for criteria in CRITERIA.values():
            scores = dict.fromkeys(criteria, 1.0) | {criteria[0]: row.quality}
            text = json.dumps({"reason": "As recorded.", **scores, "flags": []})
            text = text if row.quality is not None else "All in all I would give it 0.9."
            # As the judge reads it: without control characters and what would end the marks.
            shown = mark_data(row.question, "-" * 12).split("\n", 1)[1].rsplit("\n", 1)[0]
            yield Answer(text, (f"- {criteria[0]}:", f"\n{shown}\n"))


@contextmanager
def serve(rows: Sequence[Recorded]) -> Iterator[dict[str, str]]:
    """A teacher and a judge who say what was recorded; one judge's reply in twenty is invalid."""
    longest_first = sorted(rows, key=lambda row: -len(row.question))
    teacher = Settings(answers=tuple(Answer(r.answer, r.question.strip()) for r in longest_first))
    judge = Settings(
        seed=3,
        answers=tuple(tell_verdicts(longest_first)),
        faults=Faults(broken_json=0.02, wrong_schema=0.02),
    )
    with serve_in_thread(teacher) as first, serve_in_thread(judge) as second:
        yield {"teacher": first.url, "judge": second.url, "reviewer": second.url}


def run(folder: Path, rows: Sequence[Recorded], *sets: str) -> Outcome:
    lines = [json.dumps({"id": n, "prompt": row.question}) for n, row in enumerate(rows)]
    (folder / "questions.jsonl").write_text("\n".join(lines))
    with serve(rows) as urls:
        changed = [
            f"models.{role}={{model: openai-compatible/chaos, base_url: '{url}', "
            "price: {input: 0.1, output: 0.4}, sampling: {temperature: 0.7, max_tokens: 2048}}"
            for role, url in urls.items()
        ]
        changed += ["source.path=questions.jsonl", f"steps.1.check={CHECKS}", *sets]
        workspace = find_workspace(folder)
        return run_pipeline("distill", workspace=workspace, sets=changed, run_id="d")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = (folder / "artifacts/d").glob("*/**/shards/*.parquet")
    return [r for p in files if "calls" not in p.name for r in pq.read_table(p).to_pylist()]


def calls_of(folder: Path) -> list[dict[str, Any]]:
    files = (folder / "artifacts/d").glob("*/**/shards/*.calls.parquet")
    return [call for path in files for call in pq.read_table(path).to_pylist()]


def score_anew(calls: Sequence[dict[str, Any]], judge: str) -> dict[str, float | None]:
    """What a judge's raw replies are worth, by row: the first valid one of at most three."""
    shape = Verdicts(dict.fromkeys(CRITERIA[judge]), FLAGS[judge])
    found: dict[str, float | None] = {}
    for call in calls:
        if call["step"] != judge or found.get(call["row_id"]) is not None:
            continue
        try:
            verdict = shape.read(json.loads(call["reply"])["text"])
            found[call["row_id"]] = min(verdict[name] for name in CRITERIA[judge])
        except InvalidReplyError:
            found[call["row_id"]] = None
    return found


def check_scores(folder: Path) -> Counter[str]:
    """Every score is the judge's own; the rows by whether both, or not, could be read."""
    rows, calls = rows_of(folder), calls_of(folder)
    kinds: Counter[str] = Counter()
    for judge in CRITERIA:
        anew = score_anew(calls, judge)
        for row in rows:
            assert row["scores"][judge] == anew.get(row["id"]), row["id"]
            kinds["unscored"] += row["id"] in anew and anew[row["id"]] is None
            kinds["scored"] += row["scores"][judge] is not None
    for row in rows:
        judged = [row["scores"][judge] for judge in CRITERIA]
        if row["state"] in ("accepted", "surplus"):
            assert min(judged) >= 0.8
        if row["reason"] == "unscored":
            assert None in judged
    return kinds


def test_a_base_model_is_stopped_at_the_pilot(workspace_path: Path) -> None:
    """All of davinci's rows are rejected by the right rule, no judge is asked in vain, the gate stops."""
    rows = read_base()
    outcome = run(workspace_path, rows)
    made = rows_of(workspace_path)
    assert outcome.status == "stopped" and outcome.exit_code == 1
    assert {iteration.judged.decision.value for iteration in outcome.iterations} <= {
        "ITERATE",
        "STOP",
    }
    reasons = Counter(str(row["reason"]).partition(":")[0] for row in made)
    assert {row["state"] for row in made} == {"rejected"}
    assert reasons["repetition"] >= 0.9 * len(made)
    assert not reasons.keys() - {"repetition", "truncated", "length", "no_citations", "min_score"}
    assert Counter(call["step"] for call in calls_of(workspace_path))["factual"] < 0.1 * len(made)


def test_a_tuned_model_is_kept_trained_and_judged(workspace_path: Path) -> None:
    """GPT-4's rows pass the gate; what they lack is what the rules say; the student is judged blind."""
    rows = read_tuned()
    by_question = {row.question.strip(): row for row in rows}
    outcome = run(
        workspace_path,
        rows,
        "scale={accepted: 260, shard_rows: 100}",
        "train={method: qlora, model: local/nexa-tiny, epochs: 1}",
        "package.validation=0.12",
        "evaluate.holdout=12",
        "evaluate.max_tokens=16",
    )
    made, kinds = rows_of(workspace_path), check_scores(workspace_path)
    assert outcome.status == "done" and outcome.as_json()["rows"]["accepted"] == 260
    states = Counter(row["state"] for row in made)
    assert sum(states.values()) == len(made) and states["failed"] == 0
    assert kinds["scored"] > 500 and kinds["unscored"] > 0
    for row in made:
        recorded = by_question[row["prompt"].strip()]
        if row["reason"] == "min_score":
            assert recorded.quality == 0.6
        if row["reason"] == "unscored":
            assert recorded.quality is None
        if str(row["reason"]).startswith("length"):
            assert len(recorded.answer) < 4 * 80
        if row["state"] == "accepted":
            assert recorded.quality == 0.95 and row["response"] == recorded.answer
    evaluation = outcome.as_json()["evaluation"]
    assert evaluation["n"] == 12 and set(evaluation["unscored"]) == {"base", "tuned"}
    calls = calls_of(workspace_path)
    invalid = [c for c in calls if c["step"] in CRITERIA and not _is_valid(c)]
    judged = [c for c in calls if c["step"] in CRITERIA]
    assert 0.02 < len(invalid) / len(judged) < 0.09


def _is_valid(call: dict[str, Any]) -> bool:
    shape = Verdicts(dict.fromkeys(CRITERIA[call["step"]]), FLAGS[call["step"]])
    try:
        return bool(shape.read(json.loads(call["reply"])["text"]))
    except InvalidReplyError:
        return False
