"""`nexa validate` and `nexa preview`: what a pipeline would do, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import diagnostics, output
from nexa_core.cli.campaigns import with_sets
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.figures import show_count, show_many, show_percent, show_usd

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
    """Everything of a gate that decides, and for each rule the chance to pass at assumed failure rates."""
    from nexa_core.cli import look

    title = f"Gate {pilot['gate']}"
    facts = look.columns([(look.say(name, "dim"), told) for name, told in _tell_gate(pilot)])
    if not isinstance(pilot["rows_first"], int):
        every = [*pilot["rules"], *pilot["observed"]]
        names = [(rule["metric"], look.say(rule["wants"], "dim")) for rule in every]
        return look.block(title, facts, look.blank(), look.columns(names))
    rows = [
        (
            rule["metric"],
            look.say(rule["wants"], "dim"),
            show_count(rule["rows_least"]) if rule["rows_least"] is not None else "–",
            look.say("   ".join(map(_show_chance, rule["chances"][2:5])), "dim"),
        )
        for rule in pilot["rules"]
    ]
    heads = ("rule", "", "rows", "at a true failure rate: rows until it passes (chance)")
    return look.block(title, facts, look.blank(), look.table(heads, rows, right=(2,)))


def _tell_gate(pilot: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows, error, reviewers, and the rules for which nothing can be planned, a line each."""
    samples = isinstance(pilot["rows_first"], int)
    facts = [("rows", _tell_rows(pilot))]
    if samples:
        iterations = show_many(pilot["max_iterations"], "iteration")
        sure, alpha = show_percent(pilot["confidence"]), show_percent(pilot["alpha"])
        told = f"{sure} over up to {iterations}: {alpha} error each, at however many looks"
        facts.append(("sure", told))
    facts.append(("reviewers", " → ".join(pilot["reviewers"]) or "none: what fails ends the run"))
    if pilot["observed"] and samples:
        facts.append(("observed", f"{_join(pilot['observed'])} (as counted, uncertified)"))
    if pilot["soft"]:
        facts.append(("soft", f"{_join(pilot['soft'])} (reported, decides nothing)"))
    if pilot["slices"]:
        told = "each value held to the hard rules" if pilot["hard_slices"] else "reported"
        facts.append(("slices", f"{', '.join(pilot['slices'])} ({told})"))
    return facts


def _join(rules: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{rule['metric']} {rule['wants']}" for rule in rules)


def _tell_rows(pilot: Mapping[str, Any]) -> str:
    """How many rows an iteration begins with, and to how many it may grow."""
    first, smoke = pilot["rows_first"], pilot["smoke"]
    if not isinstance(first, int):
        return "every row, once: decided on the values themselves"
    begun = f"{show_count(first)} first"
    if smoke is not None and smoke < first:
        begun = f"{show_count(smoke)} as a smoke that a FAIL ends, then {show_count(first)}"
    return f"{begun}; at most {show_count(max(first, pilot['rows_most']))}"


def _show_chance(each: Mapping[str, Any]) -> str:
    """`1 %: 127`, or `2 %: 248 (92 %)` where passing is not sure, or `4 %: (14 %)`."""
    rows = f" {each['rows_median']:,}" if each["rows_median"] else ""
    chance = f" ({100 * each['chance']:.0f} %)" if each["chance"] < 0.995 else ""
    return f"{100 * each['failure_rate']:.3g} %:{rows}{chance}"


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
    columns = {k: _clip(v) for k, v in row.items() if k not in _OWN_COLUMNS and v is not None}
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


_LONGEST = 900
"""Characters of a text that a preview shows."""
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
    parts.append(look.inset(look.quote("›", _clip(prompt), "dim")))
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
    return f"{_clip(text)}  [{reply.get('finish_reason', '')}]"


def _clip(value: Any) -> Any:
    """Long text shown by its beginning and its end; `--json` shows all of it."""
    if not isinstance(value, str) or len(value) <= _LONGEST:
        return value
    rest = len(value) - _LONGEST
    return f"{value[: 2 * _LONGEST // 3]} …\n… {rest:,} characters …\n… {value[-_LONGEST // 3 :]}"
