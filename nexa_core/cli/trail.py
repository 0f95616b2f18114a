"""The decision trail of a run: what the gate measured, what it decided, what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from nexa_core.cli import look
from nexa_core.cli.figures import show_count, show_number, show_percent, show_share

__all__ = ["describe_check", "show_changes", "show_checks", "show_decisions"]

_RULES = {"below": "below", "at_least": "at least", "equals": "exactly"}


def show_decisions(
    decisions: Iterable[Mapping[str, Any]], last: int = 8, in_full: bool = True
) -> RenderableType:
    """Looks of the gate: the decision, why, what changed; `in_full` adds the last look's rules."""
    every = list(decisions)
    shown = every[-last:]
    parts: list[RenderableType] = []
    if len(every) > len(shown):
        parts.append(look.say(f"{len(every) - len(shown)} earlier looks", "dim"))
    parts += [_decision(one) for one in shown]
    if in_full:
        parts += [look.blank(), show_checks(every[-1]["checks"])]
    return look.block("Decisions", *parts)


def _decision(one: Mapping[str, Any]) -> RenderableType:
    word = one["decision"]
    parts = [look.say(one["reason"])] if one.get("reason") else []
    rows: list[Sequence[object]] = [
        (f"{one['iteration']}", look.say(word.ljust(7), look.style_of(word)), part)
        for part in parts or [look.say("")]
    ]
    rows += [("", "", change) for change in show_changes(one.get("changes") or {})]
    return look.columns(rows)


def show_changes(changes: Mapping[str, Sequence[Any]]) -> list[Text]:
    """A line per parameter: `respond.sampling.temperature  1.0 → 0.3`."""
    return [
        look.line(
            (path, "cyan"), "  ", (show_number(old), "dim"), " → ", (show_number(new), "bold")
        )
        for path, (old, new) in changes.items()
    ]


def show_checks(checks: Iterable[Mapping[str, Any]]) -> RenderableType:
    """The rules of a look: what each wants, k/n, value, bounds, verdict."""
    rows = []
    for check in checks:
        soft = "" if check.get("hard", True) else " (soft)"
        verdict = str(check["verdict"])
        rows.append(
            (
                f"{check['metric']}{soft}",
                look.say(_rule(check), "dim"),
                _counted(check),
                _value(check),
                look.say(_bounds(check), "dim"),
                look.say(_short(verdict), look.style_of(verdict)),
            )
        )
    return look.columns(rows, right=(2, 3, 4), fold=False)


def describe_check(check: Mapping[str, Any]) -> str:
    """A rule in one phrase: `runaway_rate below 5.0 %: 19/150 = 12.7 % (7.0 – 21.0 %)`."""
    bounds = _bounds(check)
    counted = f"{_counted(check)} = " if _counted(check) else ""
    extent = f" ({bounds})" if bounds else ""
    return f"{check['metric']} {_rule(check)}: {counted}{_value(check)}{extent}"


def _short(verdict: str) -> str:
    return "open" if verdict == "INCONCLUSIVE" else verdict


def _rule(check: Mapping[str, Any]) -> str:
    threshold = check["threshold"]
    shown = show_percent(threshold) if _is_rate(check) and threshold else f"{threshold:g}"
    return f"{_RULES.get(check['rule'], check['rule'])} {shown}"


def _counted(check: Mapping[str, Any]) -> str:
    if check.get("aggregate") == "mean":
        return f"n {show_count(check['n'])}"
    return f"{show_count(check['k'])}/{show_count(check['n'])}"


def _value(check: Mapping[str, Any]) -> str:
    value = check["value"]
    if value is None:
        return "–"
    return show_share(value) if _is_rate(check) else f"{value:.4g}"


def _bounds(check: Mapping[str, Any]) -> str:
    lower, upper = check.get("lower"), check.get("upper")
    if lower is None or upper is None or not _is_rate(check):
        return ""
    return f"{100 * lower:.1f} – {show_share(upper)}"


def _is_rate(check: Mapping[str, Any]) -> bool:
    return check.get("aggregate", "rate") == "rate"
