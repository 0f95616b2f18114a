"""Turns one parameter: how far, never out of its range, never on to a value that was too far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core import Evidence
from nexa_reviewers.history import find_bound, was_tried
from nexa_reviewers.rules import KNOBS, OTHER_KNOB, Knob, Move, RuleBase

__all__ = ["turn"]


def turn(path: str, move: Move, strength: float, evidence: Evidence, base: RuleBase) -> Any | None:
    """The parameter's new value; None where it cannot move that way."""
    space, old = evidence.search_space[path], evidence.parameters.get(path)
    if move.direction == "other":
        fresh = [c for c in space.get("choices", ()) if c != old]
        return next((c for c in fresh if not was_tried(path, c, evidence)), None)
    knob = KNOBS.get(move.knob.rpartition(".")[2], OTHER_KNOB)
    start = knob.default if old is None else old
    if isinstance(start, bool) or not isinstance(start, int | float):
        return None
    goal = _goal(start, move.direction, strength, knob) if move.to is None else move.to
    if (goal - start) * (1 if move.direction == "up" else -1) <= 0:
        return None
    bound = find_bound(path, move.knob, move.direction, evidence, base)
    if bound is not None and (goal >= bound if move.direction == "up" else goal <= bound):
        goal = (start + bound) / 2
    if "choices" in space:
        return _nearest(space["choices"], start, goal)
    return _fit(goal, start, space, knob.digits)


def _goal(start: float, direction: str, strength: float, knob: Knob) -> float:
    if knob.scale == "sum":
        return start + strength * knob.step * (1 if direction == "up" else -1)
    if direction == "down":
        return start * (1 - strength)
    return max(start, 0.1) / (1 - strength)


def _fit(goal: float, start: float, space: Mapping[str, Any], digits: int) -> float | None:
    """The goal rounded and inside the range; None where that is no move."""
    value: float = min(max(round(goal, digits), space["min"]), space["max"])
    if digits == 0:
        value = round(value)
    inside = space["min"] <= value <= space["max"]
    return value if inside and abs(value - start) >= 0.5 * 10**-digits else None


def _nearest(choices: Sequence[Any], start: float, goal: float) -> float | None:
    """Of the choices on the goal's side of the start the one nearest to the goal."""
    ahead = [c for c in choices if isinstance(c, int | float) and (c - start) * (goal - start) > 0]
    return min(ahead, key=lambda c: abs(c - goal), default=None)
