"""The `policy` reviewer: turns knobs by rule, further where the gap is larger, and learns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nexa_core import Asker, Evidence, GateCheck, Opinion, Verdict
from nexa_reviewers.gaps import measure_gap, metric_name
from nexa_reviewers.history import has_failed
from nexa_reviewers.own_rules import PolicyOptions
from nexa_reviewers.rules import RULES, Move, MoveRule, RuleBase, find_rule
from nexa_reviewers.turns import turn

__all__ = ["Policy"]

_LIKELY_FINE = 0.4
_FIELD = re.compile(r'[^(\[]+\([^\[]*?"field":\s*"((?:[^"\\]|\\.)*)"')
"""The option `field` of a metric's key; what stands behind it, a slice's value, is any text."""
"""An undecided check under this part of its limit wants more rows, not other parameters."""


class Policy:
    """Deterministic: the same evidence gives the same opinion. Never vetoes.

    The user's own rules come first, and stand in for the shipped ones of their metrics.
    """

    def __init__(self, options: PolicyOptions | None = None) -> None:
        self.base = options.base() if options else RULES

    async def review(self, evidence: Evidence, ask: Asker) -> Opinion:
        """Propose moves for what fails; none, with the reason, where nothing can move."""
        return self.propose(evidence)

    def propose(self, evidence: Evidence) -> Opinion:
        """`review` for callers that cannot await, such as a benchmark."""
        order = list(self.base)
        failing = sorted(evidence.failing, key=lambda check: _priority(check, order))
        pressing = [check for check in failing if _presses(check)]
        changes, told, cites = _propose_for(pressing, evidence, self.base)
        if not changes and len(pressing) < len(failing):
            changes, told, cites = _propose_for(failing, evidence, self.base)
        reason = " ".join(told) or "Every hard rule passes."
        return Opinion("policy", reason, changes, cites=tuple(cites))


def _propose_for(
    checks: list[GateCheck], evidence: Evidence, base: RuleBase
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Changes, sentences and cited metrics; a path that one check has turned is its own."""
    changes: dict[str, Any] = {}
    told: list[str] = []
    cites: list[str] = []
    for check in checks:
        moved, why = _move(check, evidence, changes, base)
        told.append(_tell(check, moved, why, evidence))
        changes |= moved
        cites += [check.metric] if moved else []
    return changes, told, cites


def _priority(check: GateCheck, order: list[str]) -> tuple[bool, int]:
    """What has failed before what is undecided; then the order of the rule base."""
    name = metric_name(check)
    rank = order.index(name) if name in order else len(order)
    return check.verdict != Verdict.FAIL, rank


def _presses(check: GateCheck) -> bool:
    return check.verdict == Verdict.FAIL or (
        check.n > 0 and measure_gap(check).times >= _LIKELY_FINE
    )


def _move(
    check: GateCheck, evidence: Evidence, taken: Mapping[str, Any], base: RuleBase
) -> tuple[dict[str, Any], str]:
    """The moves for one check, and why they were made or why there are none."""
    rule = find_rule(metric_name(check), check.rule, base)
    if rule is None:
        return {}, "no rule knows this metric"
    if not rule.moves or check.n == 0:
        return {}, "no row of it was measured" if rule.moves else rule.why
    gap = measure_gap(check).times
    now = [move for move in rule.moves if gap >= move.from_gap]
    later = [move for move in rule.moves if gap < move.from_gap]
    moved: dict[str, Any] = {}
    for move in now:
        moved |= _apply(move, rule, check, evidence, taken, base)
    for move in later:
        moved = moved or _apply(move, rule, check, evidence, taken, base)
    knobs = ", ".join(dict.fromkeys(move.knob for move in rule.moves))
    return moved, rule.why if moved else f"nothing in search_space is left to turn for it ({knobs})"


def _apply(
    move: Move,
    rule: MoveRule,
    check: GateCheck,
    evidence: Evidence,
    taken: Mapping[str, Any],
    base: RuleBase,
) -> dict[str, Any]:
    """The new values of every parameter that the move turns; those taken already as they are."""
    moved: dict[str, Any] = {}
    for path in _paths(move.knob, rule, check, evidence):
        if has_failed(check.metric, path, move.direction, evidence):
            continue
        value = turn(path, move, measure_gap(check).strength, evidence, base)
        if path in taken:
            same = value is not None and _side(path, value, evidence) == _side(
                path, taken[path], evidence
            )
            moved |= {path: taken[path]} if same else {}
        elif value is not None:
            moved[path] = value
    return moved


def _side(path: str, value: Any, evidence: Evidence) -> Any:
    old = evidence.parameters.get(path)
    if isinstance(old, int | float) and isinstance(value, int | float):
        return value > old
    return value


def _paths(knob: str, rule: MoveRule, check: GateCheck, evidence: Evidence) -> list[str]:
    """The parameters of this kind: those of the step that the metric reads, where there are any."""
    if knob in evidence.search_space:
        return [knob]
    paths = [path for path in evidence.search_space if path.rpartition(".")[2] == knob]
    if not rule.of_answer or not evidence.columns:
        return paths
    column = _column(check, evidence)
    steps = [step for step, into in evidence.columns.items() if into == column]
    own = [path for path in evidence.search_space if path.partition(".")[0] in steps]
    return [path for path in paths if path in own] if own else paths


def _column(check: GateCheck, evidence: Evidence) -> str:
    """The column a metric reads: named among its options, else the last step's."""
    found = _FIELD.match(check.metric)
    named = json.loads(f'"{found[1]}"') if found else None
    return str(named or list(evidence.columns.values())[-1])


def _tell(check: GateCheck, moved: Mapping[str, Any], why: str, evidence: Evidence) -> str:
    limit = {"below": "below", "at_least": "at least", "equals": "exactly"}[check.rule]
    value = "unmeasured" if check.value is None else f"{check.value:.3g} of {check.n} rows"
    head = f"{check.metric} is {value}, wanted {limit} {check.threshold:g}"
    old = evidence.parameters
    turns = ", ".join(f"{path} {old.get(path)} → {value}" for path, value in moved.items())
    return f"{head}: {turns}, because {why}." if moved else f"{head}: {why}."
