"""What the parts of a pipeline say about each other: ids, roles, columns, terms, search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexa_core.errors import PipelineFileError, Place, UnknownNameError
from nexa_core.pipeline import paths
from nexa_core.pipeline.sections import ACCEPT_KEYS, Space
from nexa_core.pipeline.steps import GenerateStep, JudgeStep
from nexa_core.pipeline.tree import Origin, Pipeline, roles_of

ROW_COLUMNS = frozenset(
    [
        "id",
        "source_id",
        "sample",
        "attempt",
        "parent_id",
        "scores",
        "flags",
        "state",
        "reason",
        "provenance",
    ]
)
"""Columns that every row has beside its own."""


def check_references(pipeline: Pipeline, tree: Mapping[str, Any], origin: Origin) -> None:
    """Raise PipelineFileError or UnknownNameError for the first part that does not fit."""
    _check_ids(tree, origin)
    _check_roles(pipeline, origin)
    _check_columns(pipeline, origin)
    _check_accept(pipeline, origin)
    _check_space(pipeline, origin)


def _check_ids(tree: Mapping[str, Any], origin: Origin) -> None:
    reserved = {*Pipeline.model_fields, *ACCEPT_KEYS}
    seen: dict[str, Place | None] = {}
    for name, keys in paths.name_anchors(tree):
        place = origin.place((*keys, "id"))
        if name in seen:
            where = f", the first at {seen[name]}" if seen[name] else ""
            raise PipelineFileError(
                f"Two steps have the id '{name}'{where}.", "Give each an `id` of its own.", place
            )
        if name in reserved:
            raise PipelineFileError(
                f"'{name}' cannot be the id of a step: a section or setting has that name.",
                "Choose another `id`.",
                place,
            )
        seen[name] = place


def _check_roles(pipeline: Pipeline, origin: Origin) -> None:
    for i, step in enumerate(pipeline.steps):
        for role in roles_of(step):
            if role not in pipeline.models:
                key = "model" if role == getattr(step, "model", None) else _naming(step, role)
                place = origin.place(("steps", i, step.kind, key))
                raise UnknownNameError(
                    "model role", role, pipeline.models, place, "Add it under `models`."
                )
    if pipeline.scoring is not None:
        _check_scoring(pipeline, pipeline.scoring, origin)
    for name, each_role in pipeline.models.items():
        for each in each_role.fallbacks:
            _check_fallback(pipeline, name, each, origin.place(("models", name, "fallbacks")))


def _check_scoring(pipeline: Pipeline, judge: JudgeStep, origin: Origin) -> None:
    for role in judge.roles:
        if role not in pipeline.models:
            key = "model" if role == judge.model else _naming(judge, role)
            place = origin.place(("evaluate", "scorer", "judged", key))
            fix = "Add it under `models`."
            raise UnknownNameError("model role", role, pipeline.models, place, fix)


def _naming(step: Any, role: str) -> str:
    return "panel" if role in step.panel else "escalate"


def _check_fallback(pipeline: Pipeline, name: str, fallback: str, place: Place | None) -> None:
    if "/" in fallback:
        return
    if fallback not in pipeline.models:
        fix = "Add it under `models`, or write a model as provider/reference."
        raise UnknownNameError("model role", fallback, pipeline.models, place, fix)
    if fallback == name or pipeline.models[fallback].api != pipeline.models[name].api:
        raise PipelineFileError(
            f"'{fallback}' cannot take over from '{name}': "
            + ("it is the same role." if fallback == name else "its `api` is another."),
            "Name another role.",
            place,
        )


def _check_columns(pipeline: Pipeline, origin: Origin) -> None:
    if not pipeline.generate_steps and pipeline.source is None:
        raise PipelineFileError(
            "This pipeline has neither a source nor a generate step, so there are no rows.",
            "Add `source: {path: …}`.",
            origin.place(("steps",)),
        )
    written: dict[str, str] = {}
    for i, step in enumerate(pipeline.steps):
        if not isinstance(step, GenerateStep):
            continue
        place = origin.place(("steps", i, "generate", "into"))
        if step.into in ROW_COLUMNS:
            raise PipelineFileError(
                f"'{step.into}' cannot be written into: every row has that column.",
                "Choose another name for `into`.",
                place,
            )
        if step.into in written:
            raise PipelineFileError(
                f"'{step.id}' and '{written[step.into]}' both write into '{step.into}'.",
                "Give one of them another `into`.",
                place,
            )
        if step.prompt is None and pipeline.source is None:
            raise PipelineFileError(
                f"'{step.id}' has no prompt, and no source whose messages it could continue.",
                "Add `prompt: NAME`.",
                place,
            )
        written[step.into] = step.id


def _check_accept(pipeline: Pipeline, origin: Origin) -> None:
    if pipeline.accept is None:
        return
    for name in pipeline.accept.scores:
        if name not in pipeline.score_ids:
            fix = f"Or one of accept's own: {', '.join(sorted(ACCEPT_KEYS))}."
            place = origin.place(("accept", name))
            raise UnknownNameError("score", name, pipeline.score_ids, place, fix)
    judged = any(isinstance(step, JudgeStep) for step in pipeline.steps)
    if pipeline.accept.min_score is not None and not judged:
        raise PipelineFileError(
            "'accept.min_score' asks judges, and no step is a judge.",
            "Write the term by step id, as in `accept: {STEP: {at_least: 0.5}}`.",
            origin.place(("accept", "min_score")),
        )
    retry = pipeline.accept.retry
    known = [step.id for step in pipeline.generate_steps]
    if retry and retry.step not in known:
        place = origin.place(("accept", "retry", "step"))
        raise UnknownNameError("generate step", retry.step, known, place)


def _check_space(pipeline: Pipeline, origin: Origin) -> None:
    tunable = sorted(_tunable_paths(pipeline))
    for path, space in pipeline.search_space.items():
        place = origin.place(("search_space", path))
        if path not in tunable:
            near = _nearest(path, tunable)
            raise PipelineFileError(
                f"'{path}' in search_space names nothing that a reviewer may change.",
                f"Tunable here: {', '.join(near)}; never checks, accept, judges or gates.",
                place,
            )
        _check_start(path, space, pipeline.value_at(path), pipeline.set_place(path) or place)


def _check_start(path: str, space: Space, start: Any, place: Place | None) -> None:
    if space.choices is not None:
        return  # a start outside the choices is one more choice
    if start is None:
        raise PipelineFileError(
            f"'{path}' in search_space has no start value.",
            f"Set it where it belongs, as in --set {path}={space.min}.",
            place,
        )
    if not space.holds(start):
        raise PipelineFileError(
            f"'{path}' starts at '{start}', outside its search_space of "
            f"{space.min} to {space.max}.",
            "Widen the range or move the start value.",
            place,
        )


def _tunable_paths(pipeline: Pipeline) -> Iterator[str]:
    """What a reviewer may change: sampling, prompt and model of what generates."""
    from nexa_core.pipeline.roles import Sampling

    numbers = [key for key in Sampling.model_fields if key != "stop"]
    for step in pipeline.generate_steps:
        yield from (f"{step.id}.prompt", f"{step.id}.model")
        yield from (f"{step.id}.sampling.{key}" for key in numbers)
    for role in {step.model for step in pipeline.generate_steps}:
        yield f"models.{role}.model"
        yield from (f"models.{role}.sampling.{key}" for key in numbers)


def _nearest(path: str, tunable: list[str]) -> list[str]:
    import difflib

    same_step = [one for one in tunable if one.split(".")[0] == path.split(".", maxsplit=1)[0]]
    return same_step or difflib.get_close_matches(path, tunable, n=5, cutoff=0) or ["nothing"]
