"""Scores predictions: by a rule in this process, or by a judge that asks as a judge step does.

A judge hears nothing of the arm: the item, the prediction between marks, and what follows from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.engine.calls import Calls
from nexa_core.engine.items import Items, tell_conversation
from nexa_core.engine.plan import Plan
from nexa_core.engine.requests import Subject
from nexa_core.engine.seating import seat_judge
from nexa_core.engine.steps.judge import SeatedJudge
from nexa_core.engine.together import Together
from nexa_core.errors import PreflightError, ScorerError, boundary
from nexa_core.pipeline import EVALUATE, Evaluate, JudgedScorer, JudgeStep
from nexa_core.prompts import Prompt
from nexa_core.protocols import Scorer
from nexa_core.records import Completion, Row, Score

__all__ = ["JudgeScoring", "RuleScoring", "Scored", "Scoring", "bind_scoring", "read_judgements"]

QUESTION, PREDICTION, REFERENCE = "instruction", "prediction", "reference"
"""The columns that a judge of predictions reads."""
RIGHT = 0.5
"""What a rule's score must reach: rules say 1 or 0."""


@dataclass(frozen=True)
class Scored:
    """A prediction's score. `error` says why the judge could not be asked."""

    score: Score
    right: bool
    error: str | None = None


class Scoring(Protocol):
    """Scores the predictions of every arm in one way. `name` says it all, and is part of identities."""

    @property
    def name(self) -> str: ...

    @property
    def judged(self) -> bool: ...

    async def score(self, item: Row, reply: Completion, calls: Calls | Together) -> Scored: ...


@dataclass(frozen=True)
class RuleScoring:
    """A scorer plugin: deterministic, asks nobody."""

    name: str
    scorer: Scorer
    judged: bool = False

    async def score(self, item: Row, reply: Completion, calls: Calls | Together) -> Scored:
        """Right is a score of one half and more; the scorer's own failure ends the evaluation."""
        with boundary(ScorerError, f"The scorer, on the item '{item['id']}',"):
            score = await self.scorer.score(item, reply)
        return Scored(score, score.value is not None and score.value >= RIGHT)


@dataclass(frozen=True)
class JudgeScoring:
    """A judge: journaled, paid for and limited like any other; what it could not score is not right."""

    name: str
    seat: SeatedJudge
    at_least: float
    judged: bool = True

    async def score(self, item: Row, reply: Completion, calls: Calls | Together) -> Scored:
        """The judge's score of a prediction, by calls about the item alone."""
        row = {**item, PREDICTION: reply.text, REFERENCE: item.get("answer")}
        row[QUESTION] = tell_conversation(item)
        subject = Subject(item["id"], item["id"], 0, 0)
        score, error = await self.seat.score(row, self.seat.asker(calls, subject))
        return Scored(score, score.value is not None and score.value >= self.at_least, error)


def bind_scoring(plan: Plan, settings: Evaluate) -> Scoring:
    """How the pipeline's evaluation scores.

    Raises:
        UsageError: The scorer, the judge's method or its rubric does not exist, or has other options.
    """
    plugins, place = plan.plugins, plan.pipeline.place("evaluate.scorer")
    step = plan.pipeline.scoring
    if step is not None and settings.judged is not None:
        rubric = _find_rubric(plan, step)
        seat = seat_judge(plan, step, QUESTION, PREDICTION, rubric)
        return JudgeScoring(
            _name_judge(plan, step, rubric, settings.judged.at_least),
            seat,
            settings.judged.at_least,
        )
    given = settings.scorer
    assert not isinstance(given, JudgedScorer)
    written: dict[str, Any] = {given: {}} if isinstance(given, str) else given
    ((name, options),) = written.items()
    scorer = plugins.build(plugins.scorers.get(name, place), options, None, place)
    return RuleScoring(_show(name, options), scorer)


def check_rubric(plan: Plan, items: Items | None) -> None:
    """Refuse a rubric that reads a column which items do not have.

    Raises:
        PreflightError: The rubric of the evaluation's judge does not fit its items.
    """
    step = plan.pipeline.scoring
    rubric = _find_rubric(plan, step) if step is not None else None
    if rubric is None:
        return
    item = items.rows[0] if items else {"id": "", QUESTION: "", "answer": ""}
    known = {"question", "answer", "a", "b", PREDICTION, REFERENCE, *item}
    missing = [name for name in rubric.inputs if name not in known]
    if missing:
        raise PreflightError(
            f"The rubric '{rubric.name}' needs '{missing[0]}', and the items have: "
            f"{', '.join(sorted(item))}.",
            "A rubric of an evaluation is given `question`, `answer` (the prediction), `reference` "
            "(the item's own answer) and the item's columns.",
            plan.pipeline.place("evaluate.scorer"),
        )


def read_judgements(path: Path) -> dict[str, dict[str, Any]]:
    """The judge's replies among an arm's calls, by call id: an equal question is not asked twice."""
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["call_id", "step", "model", "reply"])
    told = pc.and_(pc.equal(table["step"], EVALUATE), pc.is_valid(table["reply"]))
    return {
        call["call_id"]: {"reply": json.loads(call["reply"]), "model": call["model"]}
        for call in table.filter(told).to_pylist()
    }


def _find_rubric(plan: Plan, step: JudgeStep) -> Prompt | None:
    """The rubric as the run began with it; one that was set later is read now."""
    known = plan.prompts.get(step.id)
    if step.rubric is None or (known is not None and known.name == step.rubric):
        return known
    return plan.plugins.prompt(step.rubric, step.id, plan.pipeline.place("evaluate.scorer"))


def _name_judge(plan: Plan, step: JudgeStep, rubric: Prompt | None, at_least: float) -> str:
    """The judge in words: a verdict depends on all of it."""
    lines = [plan.lines(role)[0] for role in step.roles]
    named = [" at ".join(filter(None, (line.role.model, line.endpoint))) for line in lines]
    own: dict[str, Any] = {"models": named}
    if rubric is not None:
        own |= {"rubric": rubric.name, "rubric_hash": rubric.hash[:12]}
    rest = step.model_dump(
        mode="json", include={"method", "combine", "escalate", "options"}, exclude_defaults=True
    )
    rest = rest.get("judge", rest)
    sampling = step.sampling.as_dict()
    return _show(
        "judged",
        {**own, **rest, **({"sampling": sampling} if sampling else {}), "at_least": at_least},
    )


def _show(name: str, options: Mapping[str, Any]) -> str:
    return name if not options else f"{name} {json.dumps(options, sort_keys=True)}"
