"""A check, a metric and a reviewer, handed over as specs; building one imports its code."""

from importlib import import_module
from typing import Any

from nexa_core import CheckSpec, MetricSpec, ReviewerSpec, hookimpl


@hookimpl
def register_checks() -> list[CheckSpec]:
    return [CheckSpec("shouting", "Rejects text in capitals", _build_check, _read_options)]


@hookimpl
def register_metrics() -> list[MetricSpec]:
    return [MetricSpec("shouting_rate", "Rows in capitals", _build_metric, _read_options)]


@hookimpl
def register_reviewers() -> list[ReviewerSpec]:
    return [ReviewerSpec("repetition", "Vetoes when samples repeat", _build_reviewer)]


def _read_options() -> Any:
    return import_module("nexa_example_plugin.shouting").Options


def _build_check(options: Any) -> Any:
    return import_module("nexa_example_plugin.shouting").ShoutingCheck(options)


def _build_metric(options: Any) -> Any:
    return import_module("nexa_example_plugin.shouting").ShoutingMetric(options)


def _build_reviewer(_: None) -> Any:
    return import_module("nexa_example_plugin.repetition").RepetitionReviewer()
