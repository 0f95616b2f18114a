"""A user's own rules for the `policy` reviewer: a file, or inline in the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nexa_core import read_yaml
from nexa_reviewers.rules import RULES, Move, MoveRule, RuleBase

__all__ = ["PolicyOptions", "read_rules"]

_CONFIG = ConfigDict(extra="forbid", frozen=True)


class OwnMove(BaseModel):
    """One move of a rule: which parameter, which way, how far.

    `knob` is a whole path of the search space, or its last word. `to` is the value to turn to;
    without it the size follows from the gap.
    """

    model_config = _CONFIG

    knob: str
    direction: Literal["down", "up", "other"]
    from_gap: Annotated[float, Field(ge=0)] = 0.0
    to: float | None = None


class OwnRule(BaseModel):
    """What to do when a metric does not pass; no moves say that no parameter mends it."""

    model_config = _CONFIG

    moves: tuple[OwnMove, ...]
    why: Annotated[str, Field(min_length=1)]
    op: Literal["", "below", "at_least", "equals"] = ""
    of_answer: bool = False

    def as_rule(self) -> MoveRule:
        """The rule as the reviewer uses it."""
        moves = tuple(Move(m.knob, m.direction, m.from_gap, m.to) for m in self.moves)
        return MoveRule(moves, self.why, self.of_answer)


class PolicyOptions(BaseModel):
    """`rules` maps metrics to rules of one's own, or names a YAML file that does.

    They come before the shipped rules, and replace those of the same metric.
    """

    model_config = _CONFIG

    rules: dict[str, OwnRule | list[OwnRule]] = Field(default_factory=dict)

    @field_validator("rules")
    @classmethod
    def _answer_once(cls, rules: dict[str, Any]) -> dict[str, Any]:
        for metric, given in rules.items():
            known: dict[str, int] = {}
            for number, rule in enumerate(_listed(given), start=1):
                if (first := known.setdefault(rule.op, number)) != number:
                    op = f"`op: {rule.op}`" if rule.op else "no `op`"
                    raise ValueError(
                        f"rules {first} and {number} of '{metric}' both have {op}, and one metric "
                        "that fails in one way has one rule: join their moves, or give each its own `op`"
                    )
        return rules

    def base(self) -> RuleBase:
        """The user's rules, then the shipped ones of all other metrics."""
        own: dict[str, Mapping[str, MoveRule]] = {
            metric: {rule.op: rule.as_rule() for rule in _listed(rules)}
            for metric, rules in self.rules.items()
        }
        return {**own, **{metric: rules for metric, rules in RULES.items() if metric not in own}}


def read_rules(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options with the content of the file that `rules` names, relative to the workspace.

    Raises:
        UsageError: The file is not there or no YAML.
    """
    rules = options.get("rules")
    if not isinstance(rules, str):
        return dict(options)
    return {**options, "rules": read_yaml(folder / rules).data}


def _listed(rules: OwnRule | list[OwnRule]) -> list[OwnRule]:
    return rules if isinstance(rules, list) else [rules]
