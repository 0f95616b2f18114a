"""The decision trail of a run: what the gate measured, what it decided, what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from nexa_core.cli import look
from nexa_core.figures import show_number
from nexa_core.phrases import show_bounds, show_counted, show_rule, show_value, show_verdict

__all__ = ["show_changes", "show_checks", "show_decisions"]


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
    phase = one.get("phase", "pilot")
    which = f"{one['iteration']}" if phase == "pilot" else phase
    rows: list[Sequence[object]] = [
        (which, look.say(word.ljust(7), look.style_of(word)), part)
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
                look.say(show_rule(check), "dim"),
                show_counted(check),
                show_value(check),
                look.say(show_bounds(check), "dim"),
                look.say(show_verdict(verdict), look.style_of(verdict)),
            )
        )
    return look.columns(rows, right=(2, 3, 4), fold=False)
