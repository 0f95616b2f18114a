"""A gate as a frozen value: its rules, its reviewers, its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nexa_core.errors import GateFileError, Place, UnknownNameError
from nexa_core.records import canonical_json, content_hash
from nexa_core.specs import MetricSpec

__all__ = ["FAILED_RATE", "OPERATORS", "Gate", "Operator", "ReviewerUse", "Rule", "bind_gate"]

Operator = Literal["below", "at_least", "equals"]
OPERATORS: tuple[Operator, ...] = ("below", "at_least", "equals")
FAILED_RATE = "failed_rate"
"""The metric that every gate holds to, named or not."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a gate: a metric, and what it must be.

    `aggregate` and `population` come from the metric's spec (`bind_gate`); a median is tested as
    the share of rows on the right side of the threshold, which must be at least one half.
    """

    metric: str
    op: Operator
    threshold: float
    options: Mapping[str, Any] = field(default_factory=dict)
    hard: bool = True
    aggregate: str = "rate"
    population: str = ""
    place: Place | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """The name of the measurement: equal metrics with equal options are measured once."""
        if not self.options:
            return self.metric
        return f"{self.metric}({canonical_json(self.options)[1:-1]})"

    @property
    def failure_limit(self) -> float | None:
        """The rate of failing rows that must be proved to be undercut; None for `equals`."""
        if self.op == "equals":
            return None
        if self.aggregate == "median":
            return 0.5
        return self.threshold if self.op == "below" else 1.0 - self.threshold

    @property
    def counts_good(self) -> bool:
        """Whether k counts the rows that are as they should be, or the failures."""
        return self.op == "at_least" or self.aggregate == "median"

    def as_json(self) -> dict[str, Any]:
        """The rule as records keep it."""
        names = ("metric", "op", "threshold", "options", "hard", "aggregate", "population")
        return {name: getattr(self, name) for name in names} | {"options": dict(self.options)}


@dataclass(frozen=True, slots=True)
class ReviewerUse:
    """A reviewer that a gate asks, with the options given there."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The use as records keep it."""
        return {"name": self.name, "options": dict(self.options)}


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides an iteration: hard rules decide, soft ones are reported.

    `confidence` holds for the whole campaign; `max_rows` is the most rows to which EXTEND may grow
    one iteration. `slices` names columns: each hard rule is also measured for every value of each, which
    is reported, and decides where `hard_slices`.
    """

    name: str
    hard: tuple[Rule, ...]
    soft: tuple[Rule, ...] = ()
    confidence: float = 0.95
    max_rows: int = 600
    reviewers: tuple[ReviewerUse, ...] = ()
    slices: tuple[str, ...] = ()
    hard_slices: bool = False
    place: Place | None = field(default=None, compare=False)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Hard rules, then soft ones."""
        return self.hard + self.soft

    @property
    def hash(self) -> str:
        """SHA-256 of everything that can change a decision, 64 hex digits."""
        return content_hash(self.as_json())

    def alpha(self, max_iterations: int) -> float:
        """The error allowed to one iteration: (1 − confidence) / max_iterations (Bonferroni)."""
        return (1.0 - self.confidence) / max_iterations

    def renamed(self, name: str) -> Gate:
        """The same rules under another name, for records of another phase."""
        return replace(self, name=name, reviewers=())

    def with_fail_over(self, fail_over: float) -> Gate:
        """The gate with the pipeline's `fail_over` as limit of `failed_rate`, where it names none.

        0 lets no row fail; 1 lets all rows fail, so that no rule is left.
        """
        own = [rule for rule in self.hard if rule.metric == FAILED_RATE and rule.place is not None]
        others = tuple(rule for rule in self.hard if rule.metric != FAILED_RATE)
        if own or fail_over >= 1:
            return self if own else replace(self, hard=others)
        op: Operator = "below" if fail_over > 0 else "equals"
        return replace(self, hard=(*others, Rule(FAILED_RATE, op, fail_over)))

    def as_json(self) -> dict[str, Any]:
        """The gate as `run.json` and records keep it."""
        sliced = {"slices": list(self.slices), "hard_slices": self.hard_slices}
        return {
            **(sliced if self.slices else {}),
            "gate": self.name,
            "confidence": self.confidence,
            "hard": [rule.as_json() for rule in self.hard],
            "soft": [rule.as_json() for rule in self.soft],
            "max_rows": self.max_rows,
            "reviewers": [use.as_json() for use in self.reviewers],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Gate:
        """The gate that `as_json` wrote, without its places."""
        return cls(
            name=value["gate"],
            confidence=value["confidence"],
            hard=tuple(Rule(**rule) for rule in value["hard"]),
            soft=tuple(Rule(**rule) for rule in value["soft"]),
            max_rows=value["max_rows"],
            reviewers=tuple(ReviewerUse(**use) for use in value["reviewers"]),
            slices=tuple(value.get("slices", ())),
            hard_slices=value.get("hard_slices", False),
        )


def bind_gate(gate: Gate, metrics: Mapping[str, MetricSpec]) -> Gate:
    """The gate with each rule's aggregate and population taken from its metric's spec.

    Raises UnknownNameError for a metric nothing provides, GateFileError for a threshold that its
    metric can never be tested against.
    """
    return replace(
        gate,
        hard=tuple(_bind_rule(rule, metrics) for rule in gate.hard),
        soft=tuple(_bind_rule(rule, metrics) for rule in gate.soft),
    )


def _bind_rule(rule: Rule, metrics: Mapping[str, MetricSpec]) -> Rule:
    spec = metrics.get(rule.metric)
    if spec is None:
        raise UnknownNameError("metric", rule.metric, metrics, rule.place)
    bound = replace(rule, aggregate=spec.aggregate, population=spec.population)
    if spec.aggregate == "mean" and rule.hard:
        raise GateFileError(
            f"'{rule.metric}' is a mean, and a mean is only reported: it cannot be certified.",
            "Name it under `soft`, or use a rate or a median.",
            rule.place,
        )
    if spec.aggregate == "rate":
        _check_rate(bound)
    return bound


def _check_rate(rule: Rule) -> None:
    written = f"'{rule.metric}: {rule.op} {rule.threshold:g}'"
    if rule.op == "equals" and rule.threshold not in (0, 1):
        raise GateFileError(
            f"{written}: a rate can be held to exactly 0 or exactly 1 only.",
            "Use `equals: 0`, `below` or `at_least`.",
            rule.place,
        )
    if rule.op != "equals" and not 0 < rule.threshold < 1:
        exact = "equals: 0" if rule.op == "below" else "equals: 1"
        raise GateFileError(
            f"{written}: no number of rows can prove this of a rate, which lies between 0 and 1.",
            f"Use a threshold between 0 and 1, or `{exact}` for the observed rows themselves.",
            rule.place,
        )
