"""Evaluating models that no run made: each asked the same items through the engine, and compared in pairs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa_core.actions.carrying import stopping_on_signals
from nexa_core.actions.registered import mark_by_plans
from nexa_core.documents import parse_yaml
from nexa_core.engine.arms import Arm
from nexa_core.engine.binding import bind
from nexa_core.engine.budget import NANO, make_budget
from nexa_core.engine.context import StopFlag
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.evaluation import DEFAULT_MAX_TOKENS, Evaluation, evaluate
from nexa_core.engine.items import Items, bind_items
from nexa_core.engine.loop import run_async
from nexa_core.engine.plan import Plan
from nexa_core.engine.preflight import check_plan
from nexa_core.engine.scoring import Scoring, bind_scoring
from nexa_core.errors import UnknownNameError, UsageError
from nexa_core.events import Event, WarningRaised
from nexa_core.pipeline import Pipeline, load_pipeline, pipeline_from
from nexa_core.plugins import load_plugins
from nexa_core.prompts import Prompt
from nexa_core.records import content_hash
from nexa_core.store.files import make_folder
from nexa_core.store.lock import RunLock
from nexa_core.store.money import read_evaluation_money
from nexa_core.workspace import Workspace

__all__ = ["Asked", "evaluate_models"]

FOLDER = "evaluations"
"""Where evaluations of models lie among the artifacts."""


@dataclass(frozen=True)
class Asked:
    """What was asked for beside the models: each overrules what the pipeline file says.

    `prompt` names a prompt file that puts the question; without one it is asked as it stands.
    """

    items: str | None = None
    scorer: str | None = None
    file: str | None = None
    prompt: str | None = None
    sets: Sequence[str] = ()
    out: Path | None = None


def evaluate_models(
    models: Sequence[str],
    asked: Asked,
    *,
    workspace: Workspace,
    workspace_plugins: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Ask every model every item, greedily, and compare each with each; `comparison.json` as JSON.

    Models are references (`hf/NAME`, `openai/NAME`) or roles of the pipeline file. What was answered
    and judged before for the same items, scorer and model is not asked again. `marks` say how it stands
    to the plans that runs registered for these items.

    Raises:
        UsageError: No items are named, a model comes twice, or the evaluation could not succeed.
    """
    workspace.load_environment()
    pipeline = declare_evaluation(models, asked, workspace)
    plan, _ = bind(pipeline, workspace, load_plugins(workspace, workspace_plugins))
    warnings = check_plan(plan, workspace.artifacts_path) + _warn_of_itself(pipeline)
    for warning in warnings:
        on_event(WarningRaised(warning))
    items, settings = bind_items(plan), pipeline.evaluate
    assert items is not None and settings is not None
    scoring, arms = bind_scoring(plan, settings), _make_arms(plan, asked, models)
    marks = mark_by_plans(workspace.reviews_path, items, arms, scoring.name, settings)
    arms[0].request(items.rows[0])  # a prompt that does not fit is found before anything is paid
    folder = asked.out or workspace.artifacts_path / FOLDER / _name_folder(items, scoring)
    make_folder(folder, 2)
    stop = StopFlag()
    with RunLock.acquire(folder), stopping_on_signals(stop):
        spent = read_evaluation_money(folder)
        dispatch = Dispatch(make_budget(pipeline.budget, spent), stop.check, on_event)
        told = {"warnings": _warn_of_itself(pipeline), "marks": marks}
        work = _ask(plan, items, arms, scoring, folder, dispatch, told)
        found: Evaluation = run_async(work)
    budget = dispatch.budget
    cost = (budget.settled.total() + budget.at_risk.total()) / NANO
    return {**found.as_json(), "marks": marks, "folder": str(folder), "cost_usd": cost}


def declare_evaluation(models: Sequence[str], asked: Asked, workspace: Workspace) -> Pipeline:
    """The evaluation as a pipeline, so that a preflight and a budget are the usual ones.

    Its items are the source, and each model is a step that would answer them.
    """
    tree: dict[str, Any] = {"nexa": 1, "name": "evaluation", "models": {}, "evaluate": {}}
    if asked.file is not None:
        given = load_pipeline(workspace.find_pipeline(asked.file)).resolved()
        kept = ("name", "seed", "models", "budget", "fail_over", "evaluate")
        tree |= {key: given[key] for key in kept if key in given}
    evaluation = _declare_settings(tree["evaluate"], asked)
    roles = _name_roles(models, tree["models"])
    sampling = {"max_tokens": evaluation.get("max_tokens") or DEFAULT_MAX_TOKENS}
    tree["steps"] = [
        {
            "generate": {
                "id": role,
                "model": role,
                "into": role,
                "sampling": sampling,
                "prompt": _STAND_IN,
            }
        }
        for role in roles
    ]
    tree["models"] = {
        **_keep_used(tree["models"], [*roles, *_judges_of(evaluation)]),
        **{
            role: _declare_model(model)
            for role, model in roles.items()
            if role not in tree["models"]
        },
    }
    tree |= {"evaluate": evaluation, "source": {"path": evaluation["items"]}}
    return pipeline_from(tree, asked.sets)


_STAND_IN = {"user": "{{ id }}"}
"""What stands for the prompt of a step that is only there for its model to be checked."""


def _declare_settings(given: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    settings = {**given, "arms": ["base"]}
    if asked.items is not None:
        settings["items"] = asked.items
    if asked.scorer is not None:
        settings["scorer"] = parse_yaml(asked.scorer, "--scorer", UsageError).data
    if settings.get("items") is None:
        raise UsageError(
            "No items are named for the evaluation.",
            "Add --items FILE, or --pipeline FILE with `evaluate: {items: …}`.",
        )
    settings.pop("holdout", None)
    settings.pop("require", None)
    return settings


def _name_roles(models: Sequence[str], known: Mapping[str, Any]) -> dict[str, str]:
    """The role of each model: its name in the file, else one of its own."""
    roles: dict[str, str] = {}
    for number, model in enumerate(models, start=1):
        if model not in known and "/" not in model:
            fix = "Name a model as provider/reference, or a role of --pipeline FILE."
            raise UnknownNameError("model role", model, known, None, fix)
        roles[model if model in known else f"model_{number}"] = model
    if len(set(roles.values())) < len(models):
        raise UsageError("A model is named twice.", "Name each model once.")
    return roles


def _declare_model(model: str) -> dict[str, str]:
    """Weights of one's own complete text, as a base model does; a provider's model is talked to."""
    local = model.partition("/")[0] in ("local", "hf")
    return {"model": model, "api": "completions" if local else "chat"}


def _judges_of(settings: Mapping[str, Any]) -> list[str]:
    scorer = settings.get("scorer")
    judged = scorer.get("judged") if isinstance(scorer, Mapping) else None
    if not isinstance(judged, Mapping):
        return []
    dearer = (judged.get("escalate") or {}).get("model")
    return [each for each in (judged.get("model"), *judged.get("panel", ()), dearer) if each]


def _keep_used(models: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """The roles that are asked, and those that stand in for them."""
    kept = {name: models[name] for name in wanted if name in models}
    others = [each for role in kept.values() for each in role.get("fallbacks", ())]
    return {**{name: models[name] for name in others if name in models}, **kept}


def _make_arms(plan: Plan, asked: Asked, models: Sequence[str]) -> list[Arm]:
    settings = plan.pipeline.evaluate
    tokens = (settings and settings.max_tokens) or DEFAULT_MAX_TOKENS
    arms = []
    for step, model in zip(plan.pipeline.generate_steps, models, strict=True):
        role = plan.pipeline.models[step.model]
        prompt = _find_prompt(plan, asked, role.api)
        arms.append(Arm(_name_file(model), plan.line(role), prompt, tokens))
    return arms


def _find_prompt(plan: Plan, asked: Asked, api: Literal["chat", "completions"]) -> Prompt:
    """The prompt that was asked for, else the question as a student of the usual format reads it."""
    if asked.prompt is not None:
        return plan.plugins.prompt(asked.prompt, asked.prompt)
    body = "{{ prompt }}" if api == "chat" else "{{ prompt }}\n"
    return Prompt("plain", body, api=api, inputs=("prompt",))


async def _ask(
    plan: Plan,
    items: Items,
    arms: Sequence[Arm],
    scoring: Scoring,
    folder: Path,
    dispatch: Dispatch,
    told: Mapping[str, Sequence[str]],
) -> Evaluation:
    pairs = list(itertools.combinations([arm.name for arm in arms], 2))
    over = plan.pipeline.fail_over
    try:
        async with dispatch:
            return await evaluate(items, arms, scoring, folder, dispatch, over, pairs, **told)
    finally:
        await plan.models.aclose()


def _warn_of_itself(pipeline: Pipeline) -> list[str]:
    """A judge likes its own words better than others': Panickssery et al. 2024 (2404.13076)."""
    judges = pipeline.scoring.roles if pipeline.scoring else ()
    judging = {pipeline.models[role].model for role in judges}
    asked = {pipeline.models[step.model].model for step in pipeline.generate_steps}
    return [
        f"'{model}' is evaluated and judges the evaluation: models prefer their own words."
        for model in sorted(judging & asked)
    ]


def _name_folder(items: Items, scoring: Scoring) -> str:
    return f"{_name_file(items.name)[:40]}-{content_hash([items.hash, scoring.name], 8)}"


def _name_file(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
