"""`nexa validate` and `nexa preview`: what a pipeline would do, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import diagnostics, output
from nexa_core.cli.campaigns import with_sets
from nexa_core.cli.figures import show_usd
from nexa_core.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@click.argument("file")
@with_sets
@pass_session
def validate(session: Session, file: str, sets: Sequence[str]) -> None:
    """Check a pipeline file and show its plan.

    Reads the file, its gate, prompts and plugins, and says how many rows a pilot will take. Asks
    no model.
    """
    from nexa_core.actions.previewing import validate as check

    allowed = session.workspace_plugins
    found = check(file, sets, workspace=session.workspace, workspace_plugins=allowed)
    if not session.as_json:
        for warning in found["warnings"]:
            diagnostics.warn(warning)
    output.answer(session.as_json, found, show_plan)


@click.command(cls=Command)
@click.argument("file")
@click.option("-n", "--rows", type=click.IntRange(1), default=3, show_default=True)
@with_sets
@pass_session
def preview(session: Session, file: str, rows: int, sets: Sequence[str]) -> None:
    """Take a few rows through the steps and show everything.

    The prompt as it is sent, the reply as it came, every score, and the decision.
    """
    from nexa_core.actions.previewing import preview as take

    allowed = session.workspace_plugins
    found = take(file, rows, sets, workspace=session.workspace, workspace_plugins=allowed)
    output.answer(session.as_json, found, show_rows)


def show_plan(found: Mapping[str, Any]) -> RenderableType:
    """A pipeline that reads well: its steps, and what its pilot will take."""
    from nexa_core.cli import look

    facts = [(look.say("steps", "dim"), " → ".join(found["steps"]))]
    if found["columns"]:
        facts.append((look.say("source has", "dim"), ", ".join(found["columns"])))
    pilot = found["pilot"]
    return look.stack(
        look.line((found["pipeline"], "bold"), ("  valid  ", "green"), (found["hash"][:12], "dim")),
        look.blank(),
        look.columns(facts),
        _show_pilot(pilot) if pilot else None,
    )


def _show_pilot(pilot: Mapping[str, Any]) -> RenderableType:
    """What the pilot begins with, and for each rule the chance to pass at assumed failure rates."""
    from nexa_core.cli import look
    from nexa_core.cli.figures import show_count, show_share

    first = pilot["rows_first"]
    begins = show_count(first) if isinstance(first, int) else f"{first} of the source's"
    words = (
        f"Begins with {begins} rows, takes at most {show_count(pilot['rows_most'])} per iteration, "
        f"{pilot['max_iterations']} iterations, {show_share(pilot['confidence'])} sure overall."
    )
    rows = [
        (
            rule["metric"],
            look.say(rule["rule"].replace("_", " "), "dim"),
            show_count(rule["rows_least"]) if rule["rows_least"] is not None else "–",
            look.say("   ".join(_show_chance(each) for each in rule["chances"]), "dim"),
        )
        for rule in pilot["rules"]
    ]
    heads = (
        "rule",
        "",
        "rows at least",
        "chance to pass, and rows by then, at a true failure rate",
    )
    return look.block(f"Gate {pilot['gate']}", look.say(words), look.table(heads, rows, right=(2,)))


def _show_chance(each: Mapping[str, Any]) -> str:
    rows = f" in {each['rows_median']:,}" if each["rows_median"] else ""
    return f"{100 * each['failure_rate']:.3g} %: {100 * each['chance']:.0f} %{rows}"


def show_rows(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Each row's way through the steps: what was asked and answered, then scores and decision."""
    from nexa_core.cli import look

    return look.stack(*(_show_row(number, one) for number, one in enumerate(found, 1)))


def _show_row(number: int, one: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    row = one["row"]
    verdict = look.line(
        (row["state"], look.style_of(row["state"])),
        f"  {row['reason']}" if row.get("reason") else "",
    )
    scores = {k: v for k, v in (row.get("scores") or {}).items() if v is not None}
    columns = {k: v for k, v in row.items() if k not in _OWN_COLUMNS and v is not None}
    cost = sum(call["cost_nano"] or 0 for call in one["calls"]) / 1e9
    rest: dict[str, Any] = {"scores": scores} if scores else {}
    rest |= {"flags": row["flags"]} if row.get("flags") else {}
    rest |= {"cost": show_usd(cost)} if cost else {}
    return look.block(
        f"Row {number}",
        *(_show_call(call) for call in one["calls"]),
        look.say("row", "cyan"),
        look.inset(look.describe({**columns, **rest})),
        verdict,
    )


_OWN_COLUMNS = frozenset(
    {"id", "source_id", "sample", "attempt", "parent_id", "scores", "flags", "state", "reason"}
    | {"provenance"}
)


def _show_call(call: Mapping[str, Any]) -> RenderableType:
    """One call: the prompt as it was sent, the reply as it came."""
    from nexa_core.cli import look

    request = json.loads(call["request"])
    prompt = request["prompt"]
    if isinstance(prompt, list):
        prompt = "\n".join(f"{role}: {text}" for role, text in prompt)
    parts: list[RenderableType] = [look.say(call["step"], "cyan")]
    parts.append(look.inset(look.quote("›", prompt, "dim")))
    if call["error"]:
        parts.append(look.inset(look.quote("✗", call["error"], "red")))
    else:
        parts.append(look.inset(look.quote("‹", _reply_text(json.loads(call["reply"])))))
    return look.stack(*parts)


def _reply_text(reply: Mapping[str, Any]) -> str:
    """A completion's text with the reason why it ended, or a choice's log-probabilities."""
    if "logprobs" in reply and "text" not in reply:
        return "log-probabilities " + "  ".join(f"{value:.3f}" for value in reply["logprobs"])
    text = reply.get("raw_text") or reply.get("text", "")
    return f"{text}  [{reply.get('finish_reason', '')}]"
