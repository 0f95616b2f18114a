"""The hooks: the markers and every function a plugin may offer.

`register_…` hooks are called once, after loading, and hand over specs; they do no work.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from nexa_core.events import Event
from nexa_core.specs import (
    CheckSpec,
    ExporterSpec,
    FileSpec,
    JudgeSpec,
    MetricSpec,
    ModelSpec,
    ReviewerSpec,
    ScorerSpec,
    SourceSpec,
    TrainerSpec,
)

PROJECT = "nexa"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Providers: `model: NAME/REFERENCE` in a pipeline is built by the spec called NAME."""


@hookspec
def register_judges() -> Iterable[JudgeSpec]:  # type: ignore[empty-body]
    """Judges: `- judge: {…}` and `- critic: {…}` in `steps`, by name."""


@hookspec
def register_checks() -> Iterable[CheckSpec]:  # type: ignore[empty-body]
    """Checks: `- check: [NAME, {NAME: options}]` in `steps`."""


@hookspec
def register_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Metrics: `metric: NAME` in a gate file."""


@hookspec
def register_gates() -> Iterable[FileSpec]:  # type: ignore[empty-body]
    """Gate files: `gate: NAME` in a pipeline."""


@hookspec
def register_prompts() -> Iterable[FileSpec]:  # type: ignore[empty-body]
    """Prompt files: `prompt: NAME` in a step."""


@hookspec
def register_reviewers() -> Iterable[ReviewerSpec]:  # type: ignore[empty-body]
    """Reviewers: `reviewers: [NAME]` in a gate."""


@hookspec
def register_trainers() -> Iterable[TrainerSpec]:  # type: ignore[empty-body]
    """Trainers, by the method they train with: `train: {method: NAME}`."""


@hookspec
def register_scorers() -> Iterable[ScorerSpec]:  # type: ignore[empty-body]
    """Scorers: `evaluate: {scorer: NAME}`."""


@hookspec
def register_sources() -> Iterable[SourceSpec]:  # type: ignore[empty-body]
    """Sources that ship with a plugin: `source: {path: NAME}` and `evaluate: {items: NAME}`."""


@hookspec
def register_exporters() -> Iterable[ExporterSpec]:  # type: ignore[empty-body]
    """Training formats: `package: {format: NAME}`."""


@hookspec
def on_event(event: Event) -> None:
    """Watch a run: called for every event; a failure is logged and never stops the run."""
