"""`nexa diff`: two runs side by side, on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.figures import show_count, show_many, show_number, show_share, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDEST = 48
"""Characters of a setting's value that are shown."""


@click.command(cls=Command)
@click.argument("a")
@click.argument("b", default="latest")
@pass_session
def diff(session: Session, a: str, b: str) -> None:
    """Show what sets run B apart from run A.

    Settings, prompts, yield by reason, dollars per accepted row; and on the rows that both had, which
    run accepted more and scored higher. Without B: the latest run.
    """
    from nexa_core.actions.differing import diff_runs

    output.answer(session.as_json, diff_runs(a, b, session.workspace), show_difference)


def show_difference(found: Mapping[str, Any]) -> RenderableType:
    """Figures first, then what was set otherwise, then what came of it."""
    from nexa_core.cli import look

    a, b = found["a"], found["b"]
    return look.stack(
        look.line(("A ", "dim"), (a["run"], "bold"), ("   B ", "dim"), (b["run"], "bold")),
        look.blank(),
        _show_figures(a, b),
        _show_changes("Settings", found["configuration"]),
        _show_changes("Made with", found["environment"]) if found["environment"] else None,
        *(_show_prompt(prompt) for prompt in found["prompts"]),
        _show_reasons(a, b),
        _show_pairs(found["paired"]),
    )


def _show_figures(a: Mapping[str, Any], b: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    rows = [
        (look.say(name, "dim"), *(show(side) for side in (a, b))) for name, show in _FIGURES.items()
    ]
    return look.table(("", "A", "B"), rows, right=(1, 2))


def _share(side: Mapping[str, Any]) -> str:
    return "–" if side["acceptance"] is None else show_share(side["acceptance"])


def _each(side: Mapping[str, Any]) -> str:
    each = side["usd_per_accepted_row"]
    return "–" if each is None else show_usd(each)


_FIGURES = {
    "status": lambda side: str(side["status"]),
    "iterations": lambda side: show_count(side["iterations"]),
    "rows": lambda side: show_count(side["total_rows"]),
    "tried again": lambda side: show_count(side["retried"]),
    "accepted": lambda side: show_count(side["rows"].get("accepted", 0)),
    "answers passed": _share,
    "calls asked": lambda side: show_count(side["calls"].get("asked", 0)),
    "calls reused": lambda side: show_count(side["calls"].get("reused", 0)),
    "cost": lambda side: show_usd(side["cost_usd"]),
    "per accepted row": _each,
}


def _show_changes(title: str, changes: Sequence[Mapping[str, Any]]) -> RenderableType:
    from nexa_core.cli import look

    if not changes:
        return look.block(title, look.say("The same in both.", "dim"))
    rows = [(look.say(c["path"], "dim"), _value(c["a"]), "→", _value(c["b"])) for c in changes]
    return look.block(title, look.columns(rows))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    text = ", ".join(map(str, value)) if isinstance(value, list) else show_number(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _show_prompt(prompt: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    names = " → ".join(dict.fromkeys(str(name or "–") for name in prompt["names"]))
    hashes = " → ".join((each or "–")[:12] for each in prompt["hashes"])
    styles = {"+": "green", "-": "red", "@": "dim"}
    lines = [look.say(line, styles.get(line[:1], "")) for line in prompt["diff"]]
    head = look.line((names, ""), (f"  {hashes}", "dim"))
    return look.block(f"Prompt of {prompt['step']}", head, *lines)


def _show_reasons(a: Mapping[str, Any], b: Mapping[str, Any]) -> RenderableType | None:
    """How many rows fell for each reason, and what share of all that is."""
    from nexa_core.cli import look

    reasons = dict.fromkeys([*a["reasons"], *b["reasons"]])
    if not reasons:
        return None
    rows = []
    for reason in reasons:
        cells: list[object] = [reason]
        for side in (a, b):
            number = side["reasons"].get(reason, 0)
            cells += [show_count(number), show_share(number / max(1, side["total_rows"]))]
        rows.append(cells)
    heads = ("rejected or failed for", "A", "", "B", "")
    return look.block("Reasons", look.table(heads, rows, right=range(1, 5)))


def _show_pairs(paired: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    title = f"Paired, on {show_many(paired['rows'], 'shared row')}"
    accepted = paired["accepted"]
    if accepted is None:
        return look.block(title, look.say("No row of B came from the source row of one in A."))
    same = paired["same_answers"]
    facts = [
        (look.say("accepted in A only", "dim"), show_count(accepted["b"])),
        (look.say("accepted in B only", "dim"), show_count(accepted["c"])),
        (look.say("accepted, B − A", "dim"), _points(accepted)),
    ]
    if same is not None:
        facts.append((look.say("the same answer", "dim"), show_count(same)))
    return look.block(
        title, look.columns(facts), _show_scores(paired["scores"]) if paired["scores"] else None
    )


def _points(accepted: Mapping[str, Any]) -> str:
    delta, low, high = (100 * accepted[name] for name in ("delta", "delta_low", "delta_high"))
    return f"{delta:+.1f} points (95 %: {low:+.1f} to {high:+.1f}), mid-p {accepted['p_midp']:.2g}"


def _show_scores(scores: Sequence[Mapping[str, Any]]) -> RenderableType:
    from nexa_core.cli import look

    rows = [
        (
            score["score"],
            show_count(score["n"]),
            f"{score['mean_a']:.4g}",
            f"{score['mean_b']:.4g}",
            f"{score['difference']:+.3g}",
            "–" if score["low"] is None else f"{score['low']:+.3g} to {score['high']:+.3g}",
            f"{score['p_holm']:.2g}",
        )
        for score in scores
    ]
    heads = ("mean score", "rows", "A", "B", "B − A", "95 %", "p (Holm)")
    return look.stack(look.blank(), look.table(heads, rows, right=range(1, 7)))
