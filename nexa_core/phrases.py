"""Facts in few words: a gate's rule with what was counted, and what came of rows tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa_core.figures import show_count, show_many, show_percent, show_share
from nexa_core.records import State

__all__ = [
    "describe_check",
    "show_bounds",
    "show_counted",
    "show_rule",
    "show_value",
    "show_verdict",
    "tell_retried",
]

_RULES = {"below": "below", "at_least": "at least", "equals": "exactly"}


def describe_check(check: Mapping[str, Any]) -> str:
    """A rule in one phrase: `runaway_rate below 5.0 %: 19/150 = 12.7 % (7.0 – 21.0 %)`."""
    bounds = show_bounds(check)
    counted = f"{show_counted(check)} = " if show_counted(check) else ""
    extent = f" ({bounds})" if bounds else ""
    return f"{check['metric']} {show_rule(check)}: {counted}{show_value(check)}{extent}"


def show_verdict(verdict: str) -> str:
    """A verdict in one short word; what is not decided yet is open."""
    return "open" if verdict == "INCONCLUSIVE" else verdict


def show_rule(check: Mapping[str, Any]) -> str:
    """What a rule wants: `below 5 %`."""
    threshold = check["threshold"]
    shown = show_percent(threshold) if _is_rate(check) and threshold else f"{threshold:g}"
    return f"{_RULES.get(check['rule'], check['rule'])} {shown}"


def show_counted(check: Mapping[str, Any]) -> str:
    """How many of how many rows."""
    if check.get("aggregate") == "mean":
        return f"n {show_count(check['n'])}"
    return f"{show_count(check['k'])}/{show_count(check['n'])}"


def show_value(check: Mapping[str, Any]) -> str:
    """What was measured, in the metric's own unit."""
    value = check["value"]
    if value is None:
        return "–"
    return show_share(value) if _is_rate(check) else f"{value:.4g}"


def show_bounds(check: Mapping[str, Any]) -> str:
    """Between what the true rate lies; empty where that is not said, or known exactly."""
    lower, upper = check.get("lower"), check.get("upper")
    if lower is None or upper is None or lower == upper:
        return ""
    if not check["n"] or not _is_rate(check):
        return ""
    return f"{100 * lower:.1f} – {show_share(upper)}"


def _is_rate(check: Mapping[str, Any]) -> bool:
    return check.get("aggregate", "rate") == "rate"


def tell_retried(rows: Mapping[str, int], retried: int) -> str:
    """What came of the answers in the end, where rejected ones were tried again; empty where none was."""
    answers = sum(rows.values()) - retried
    if not retried or answers <= 0:
        return ""
    passed = (rows.get(State.ACCEPTED, 0) + rows.get(State.SURPLUS, 0)) / answers
    was = f"{show_many(retried, 'rejected row')} {'was' if retried == 1 else 'were'} tried again"
    return f"{was}: of {answers:,} answers {show_share(passed)} passed in the end."
