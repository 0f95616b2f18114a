"""What a gate can ask of a dataset as a whole, beside what it asks of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nexa_core.errors import UnknownNameError
from nexa_core.gates.rules import FAILED_RATE, Gate, Rule

__all__ = ["MEASURES", "bind_measures"]

MEASURES: Mapping[str, tuple[str, str]] = {
    "yield_rate": ("rate", "answers, each by its last attempt"),
    "repeated_rate": ("rate", "accepted rows"),
    "contamination_rate": ("rate", "accepted rows"),
    "diversity_kept": ("mean", "accepted rows, as many as the first iteration has"),
}
"""What can be asked of a dataset: how it is aggregated, and over which rows."""


def bind_measures(gate: Gate) -> Gate:
    """The gate with every rule's measure known; it is always a census, so that a mean may be hard.

    Raises:
        UnknownNameError: A rule names no measure of a dataset.
    """
    hard = tuple(_bind(rule) for rule in gate.hard if rule.metric != FAILED_RATE)
    return replace(gate, hard=hard, soft=tuple(map(_bind, gate.soft)), reviewers=())


def _bind(rule: Rule) -> Rule:
    if rule.metric not in MEASURES:
        raise UnknownNameError("measure of a dataset", rule.metric, MEASURES, rule.place)
    aggregate, population = MEASURES[rule.metric]
    return replace(rule, aggregate=aggregate, population=population)
