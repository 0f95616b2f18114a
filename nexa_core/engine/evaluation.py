"""Evaluates a base model against its tuned self on held-out items, by paired tests over the same items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nexa_core.engine.arms import FAIL_OVER, Arm, Predictions, run_arm
from nexa_core.engine.comparison import Compared, compare_outcomes
from nexa_core.engine.context import Context
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.evaluation_gate import judge_evaluation, register
from nexa_core.engine.items import Items, bind_items, read_items
from nexa_core.engine.packaging import read_manifest
from nexa_core.engine.plan import Plan
from nexa_core.engine.scoring import Scoring, bind_scoring, check_rubric
from nexa_core.engine.training import read_training
from nexa_core.errors import Place, UnknownNameError, UsageError
from nexa_core.pipeline import Evaluate, Pipeline, Role
from nexa_core.prompts import Prompt
from nexa_core.protocols import Model
from nexa_core.reviews import describe_overrides, read_reviews
from nexa_core.store.files import replace_file

__all__ = ["ARMS", "Evaluation", "check_evaluation", "evaluate", "evaluate_run"]

BASE, FEW_SHOT, TUNED = "base", "base-few-shot", "tuned"
ARMS = (BASE, FEW_SHOT, TUNED)
COMPARED = ((BASE, TUNED), (FEW_SHOT, TUNED), (BASE, FEW_SHOT))
"""Pairs that are compared where both arms were run; the first of them is the headline."""
FEW_SHOT_PROMPTS = ("eval/few_shot", "bootstrap/response")
MAX_TOKENS = (32, 512)
DEFAULT_MAX_TOKENS = 256
MEASURED_ROWS = 500
COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Evaluation:
    """What the arms predicted and how they compare."""

    items: Items
    scorer: str
    predictions: tuple[Predictions, ...]
    comparisons: tuple[Compared, ...]
    max_tokens: int
    warnings: tuple[str, ...] = ()
    """What whoever reads the figures must know."""

    def as_json(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        return {
            "version": 1,
            "items": self.items.name,
            "n": len(self.items.rows),
            "item_hash": self.items.hash,
            "scorer": self.scorer,
            "max_tokens": self.max_tokens,
            "arms": {each.arm: each.as_json() for each in self.predictions},
            "comparisons": [compared.as_json() for compared in self.comparisons],
            "warnings": list(self.warnings),
        }

    def summarise(self, alpha: float) -> dict[str, Any]:
        """The evaluation as `nexa run --json` prints it: accuracies, then the headline comparison.

        `better` says whether the headline's second arm beats its first at `alpha`, two-sided mid-p.
        """
        found: dict[str, Any] = {
            each.arm.replace("-", "_"): each.as_json()["accuracy"] for each in self.predictions
        }
        found["n"] = len(self.items.rows)
        if self.comparisons:
            pairs = self.comparisons[0].pairs
            found |= {key: getattr(pairs, key) for key in ("b", "c", "p_exact", "p_midp")}
            found |= {key: getattr(pairs, key) for key in ("delta", "delta_low", "delta_high")}
            found["better"] = pairs.p_midp < alpha and pairs.delta > 0
        found["comparisons"] = [compared.as_json() for compared in self.comparisons]
        judged = [each for each in self.predictions if each.judged]
        if judged:
            found["unscored"] = {each.arm: each.as_json()["unscored"] for each in judged}
        return {**found, "warnings": list(self.warnings)}


async def evaluate(
    items: Items,
    arms: Sequence[Arm],
    scoring: Scoring,
    folder: Path,
    dispatch: Dispatch | None = None,
    fail_over: float = FAIL_OVER,
    compared: Sequence[tuple[str, str]] = COMPARED,
    warnings: Sequence[str] = (),
    marks: Sequence[str] = (),
) -> Evaluation:
    """Ask every arm every item, compare them, and write `comparison.json` into `folder`.

    Of the pairs `compared` those are, whose arms were both asked. Arms that ended before with the
    same settings are read back. `marks` say what a reader must not miss.
    """
    names, predictions = [arm.name for arm in arms], []
    for number, arm in enumerate(arms):
        predictions.append(
            await run_arm(arm, items, scoring, folder, dispatch, fail_over, names[:number])
        )
    outcomes = {each.arm: each.outcomes for each in predictions}
    pairs = [
        compare_outcomes(a, outcomes[a], b, outcomes[b])
        for a, b in compared
        if a in outcomes and b in outcomes
    ]
    longest = max((arm.max_tokens for arm in arms), default=0)
    found = Evaluation(
        items, scoring.name, tuple(predictions), tuple(pairs), longest, tuple(warnings)
    )
    created: dict[str, Any] = {"created_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    created["marks"] = list(marks)
    text = json.dumps({**found.as_json(), **created}, indent=1, ensure_ascii=False)
    replace_file(folder / COMPARISON, text.encode() + b"\n")
    return found


async def evaluate_run(context: Context) -> dict[str, Any]:
    """Evaluate as the run's pipeline says, into the run's `evaluation/`."""
    pipeline = context.plan.pipeline
    settings = pipeline.evaluate
    assert settings is not None
    items = _find_items(context, settings)
    arms = _bind_arms(context, settings)
    scoring = bind_scoring(context.plan, settings)
    names = [arm.name for arm in arms]
    headline = next((pair for pair in COMPARED if {*pair} <= {*names}), None)
    registered = register(context, settings, items, arms, scoring.name, headline)
    found = await evaluate(
        items,
        arms,
        scoring,
        context.run.evaluation,
        context.dispatch,
        pipeline.fail_over,
        warnings=pipeline.warnings_of_evaluation,
        marks=_list_marks(context),
    )
    summary = found.summarise(settings.alpha)
    review = judge_evaluation(context, settings, registered, found)
    if review is not None:
        summary |= {"decision": review.decision, "reason": review.reason, "review": review.hash}
    return {"evaluation": summary}


def _list_marks(context: Context) -> list[str]:
    """What a reader must not miss: the dataset's marks, and what a person overrode since."""
    dataset = read_manifest(context.run.dataset)
    marks = list(dataset["marks"]) if dataset else []
    marks += ["rehearsal"] if context.run.record.get("rehearsal") else []
    return list(dict.fromkeys([*marks, *describe_overrides(read_reviews(context.reviews))]))


def check_evaluation(plan: Plan, items: Items | None) -> None:
    """Refuse, before anything is paid for, what the pipeline's `evaluate` section cannot do.

    `items` are those it names, None where it holds out rows.

    Raises:
        UsageError: An arm, scorer or prompt does not exist, or does not fit the items.
    """
    pipeline = plan.pipeline
    settings = pipeline.evaluate
    if settings is None:
        return
    place = pipeline.place("evaluate.arms") or pipeline.place("evaluate")
    for name in settings.arms:
        if name not in ARMS:
            raise UnknownNameError("evaluation arm", name, ARMS, place)
    if TUNED in settings.arms and pipeline.train is None:
        raise _miss_student(place)
    _find_student(pipeline, chat=False)
    if items is None and (pipeline.package is None or pipeline.package.validation <= 0):
        raise UsageError(
            "'evaluate.holdout' takes rows of the dataset's validation split, and there is none.",
            "Set package.validation over 0, or name `items`.",
            pipeline.place("evaluate.holdout"),
        )
    if settings.require and not any({*pair} <= {*settings.arms} for pair in COMPARED):
        raise UsageError(
            "'evaluate.require: better' needs two arms to compare.",
            f"Name two of {', '.join(ARMS)} in evaluate.arms.",
            pipeline.place("evaluate.require"),
        )
    bind_scoring(plan, settings)
    check_rubric(plan, items)
    if FEW_SHOT in settings.arms:
        item = items.rows[0] if items else {"id": "", "instruction": ""}
        _few_shot_prompt(plan, settings).render(item)


def _find_items(context: Context, settings: Evaluate) -> Items:
    """The items that are named, else up to `holdout` rows of the dataset's validation split."""
    named = bind_items(context.plan)
    if named is not None:
        return named
    rows = _HeldOut(context.run.dataset, settings.holdout or 0)
    return read_items(f"{context.run.id}/validation", rows)


@dataclass(frozen=True)
class _HeldOut:
    """The first rows of a dataset's validation split, as items."""

    dataset: Path
    most: int

    def rows(self) -> Any:
        left = self.most
        for path in sorted((self.dataset / "data").glob("validation-*.parquet")):
            for row in pq.read_table(path).slice(0, left).to_pylist():
                left -= 1
                yield _as_item(row)


def _as_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """A packaged row as an item, in any of the formats that have a question and an answer."""
    if "messages" in row:
        return _as_conversation(row, row["messages"])
    if "conversations" in row:
        return _as_conversation(row, [_as_turn(part) for part in row["conversations"]])
    if "output" in row:
        asked = "\n\n".join(filter(None, [row["instruction"], row["input"]]))
        return {"id": row["id"], "instruction": asked, "answer": row["output"]}
    answer = row["chosen"] if "chosen" in row else row["completion"]
    if isinstance(row["prompt"], str):
        return {"id": row["id"], "instruction": row["prompt"], "answer": answer}
    return _as_conversation(row, [*row["prompt"], *answer])


def _as_conversation(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told = {"id": row["id"], "messages": list(turns), "answer": turns[-1]["content"] or ""}
    return told | ({"tools": row["tools"]} if row.get("tools") else {})


def _as_turn(part: Mapping[str, str]) -> dict[str, str]:
    """A turn of a ShareGPT conversation; a tool's call stays the text that it is there."""
    roles = {"human": "user", "system": "system", "observation": "tool"}
    return {"role": roles.get(part["from"], "assistant"), "content": part["value"]}


def _bind_arms(context: Context, settings: Evaluate) -> list[Arm]:
    """The arms of the pipeline, all on the student's weights; tuned has its adapter."""
    dataset = read_manifest(context.run.dataset) or {}
    chat = bool(dataset.get("chat"))
    role = _find_student(context.plan.pipeline, chat)
    base = context.plan.line(role)
    template = dataset.get("prompt_template") or "{{ prompt }}\n"
    # Rows held out hold the prompt as it was rendered.
    asked = _plain_prompt("{{ prompt }}" if settings.items is None else template, chat)
    tokens = settings.max_tokens or _measure_tokens(base.model, context.run.dataset)
    arms = []
    for name in settings.arms:
        line = context.plan.line(_tune(context, role)) if name == TUNED else base
        prompt = _few_shot_prompt(context.plan, settings) if name == FEW_SHOT else asked
        arms.append(Arm(name, line, prompt, tokens))
    return arms


def _find_student(pipeline: Pipeline, chat: bool) -> Role:
    """The role that the student's weights have in the pipeline, else a role of its own."""
    train = pipeline.train
    if train is None:
        steps = pipeline.generate_steps
        if not steps:
            raise UsageError(
                "There is no model to evaluate: the pipeline neither trains nor generates.",
                "Add a `train` section.",
                pipeline.place("evaluate"),
            )
        return pipeline.models[steps[-1].model]
    api = "chat" if chat else "completions"
    known = (role for role in pipeline.models.values() if role.model == train.model)
    role = next(known, None) or Role(model=train.model)
    return role.model_copy(update={"api": api})


def _tune(context: Context, role: Role) -> Role:
    train = context.plan.pipeline.train
    manifest = read_training(context.run.training(train.method)) if train else None
    if train is None or manifest is None:
        raise _miss_student(context.plan.pipeline.place("evaluate.arms"))
    adapter = context.run.training(train.method) / manifest["adapter"]
    return role.model_copy(update={"adapter": str(adapter)})


def _miss_student(place: Place | None) -> UsageError:
    return UsageError(
        "The arm 'tuned' needs a trained student, and nothing trains one.",
        "Add a `train` section, or leave 'tuned' out of evaluate.arms.",
        place,
    )


def _plain_prompt(template: str, chat: bool) -> Prompt:
    """The prompt that training used: the packaged template, and nothing around it."""
    return Prompt("packaged", template, api="chat" if chat else "completions", inputs=("prompt",))


def _few_shot_prompt(plan: Plan, settings: Evaluate) -> Prompt:
    plugins = plan.plugins
    place = plan.pipeline.place("evaluate.few_shot")
    if settings.few_shot is not None:
        return plugins.prompt(settings.few_shot, settings.few_shot, place)
    for name in FEW_SHOT_PROMPTS[:-1]:
        try:
            return plugins.prompt(name)
        except UnknownNameError:
            continue
    return plugins.prompt(FEW_SHOT_PROMPTS[-1], FEW_SHOT_PROMPTS[-1], place)


def _measure_tokens(model: Model, dataset: Path) -> int:
    """Half as much again as the longest of the first completions that were trained on."""
    longest = 0
    for path in sorted((dataset / "data").glob("train-*.parquet"))[:1]:
        for row in pq.read_table(path).slice(0, MEASURED_ROWS).to_pylist():
            longest = max(longest, model.count_tokens(_as_item(row)["answer"]))
    if longest == 0:
        return DEFAULT_MAX_TOKENS
    low, high = MAX_TOKENS
    return min(max(low, longest * 3 // 2), high)
