"""Trainings as the report shows them: what was trained on what, and how the loss went."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nexa_core.report.figures import show_count, show_number, show_seconds, show_value
from nexa_core.report.folder import TrainingFacts
from nexa_core.report.plots import draw_curve

__all__ = ["TrainingView", "show_training"]


@dataclass(frozen=True)
class TrainingView:
    """A training, ready to be shown; `facts` and `recipe` are pairs of a name and its value."""

    name: str
    ended: bool
    facts: list[tuple[str, str]]
    recipe: list[tuple[str, str]]
    curve: Markup | None
    told: str


def show_training(training: TrainingFacts) -> TrainingView:
    """The training as read, with its loss curve where steps were logged."""
    manifest = training.manifest or {}
    details = _mapping(manifest.get("details"))
    loss = _points(training.metrics, "loss")
    validation = _points(training.metrics, "eval_loss")
    told = _describe(loss, validation)
    return TrainingView(
        name=training.name,
        ended=training.manifest is not None,
        facts=list(_list_facts(manifest, details)),
        recipe=[(k, show_value(v)) for k, v in _mapping(details.get("recipe")).items()],
        curve=draw_curve(told, loss, validation) if loss else None,
        told=told,
    )


def _points(metrics: Iterable[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found: list[tuple[Any, Any]] = [(entry.get("step"), entry.get(name)) for entry in metrics]
    return [(float(x), float(y)) for x, y in found if _is_number(x) and _is_number(y)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _describe(loss: list[tuple[float, float]], validation: list[tuple[float, float]]) -> str:
    if not loss:
        return "No step was logged."
    (first, high), (last, low) = loss[0], loss[-1]
    told = (
        f"Training loss {show_number(high)} at step {first:,.0f}, "
        f"{show_number(low)} at step {last:,.0f}."
    )
    if validation:
        told += f" Validation loss (squares) ended at {show_number(validation[-1][1])}."
    return told


def _list_facts(
    manifest: Mapping[str, Any], details: Mapping[str, Any]
) -> Iterable[tuple[str, str]]:
    shown: dict[str, Callable[[Any], str]] = {
        "method": show_value,
        "model": show_value,
        "rows": show_count,
        "tokens": show_count,
        "steps": show_count,
        "seconds": show_seconds,
        "loss": show_number,
        "adapter": show_value,
    }
    names = {"loss": "final loss", "seconds": "time", "tokens": "tokens seen"}
    for key, show in shown.items():
        if manifest.get(key) is not None:
            yield names.get(key, key), show(manifest[key])
    for key in ("parameters", "trained_parameters"):
        if _is_number(details.get(key)):
            yield key.replace("_", " "), show_count(details[key])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
