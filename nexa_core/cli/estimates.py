"""`nexa estimate`: what a run will ask, take and cost, laid out for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import diagnostics, output
from nexa_core.cli.campaigns import with_sets
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.figures import show_count, show_many, show_percent, show_span, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@click.argument("file")
@click.option("-n", "--rows", type=click.IntRange(1), default=200, show_default=True)
@click.option(
    "--assume",
    multiple=True,
    metavar="NAME=VALUE",
    help="Take something else for granted: acceptance=0.6, STEP.tokens=250. Repeatable.",
)
@click.option("--like", metavar="RUN", help="Take acceptance and answer lengths from a run.")
@with_sets
@pass_session
def estimate(
    session: Session,
    file: str,
    rows: int,
    assume: Sequence[str],
    like: str | None,
    sets: Sequence[str],
) -> None:
    """Say what a run will cost, before it costs anything.

    Renders the prompts of a sample of the source's rows, counts their tokens, and works out calls,
    dollars and time by phase and role. Asks no model and needs no key.
    """
    from nexa_core.actions.estimating import estimate as work_out

    allowed = session.workspace_plugins
    found = work_out(
        file, sets, assume, rows, like, workspace=session.workspace, workspace_plugins=allowed
    )
    if not session.as_json:
        for warning in found["warnings"]:
            diagnostics.warn(warning)
    output.answer(session.as_json, found, show_estimate)


def show_estimate(found: Mapping[str, Any]) -> RenderableType:
    """The headline, then money by role and by phase, the pilot, the budget, and what was assumed."""
    from nexa_core.cli import look

    return look.stack(
        look.line((found["pipeline"], "bold"), ("  ", ""), (found["hash"][:12], "dim")),
        look.blank(),
        look.columns(_headline(found)),
        _show_roles(found["roles"]) if found["roles"] else None,
        _show_phases(found["phases"]),
        _show_pilot(found["pilot"]) if found["pilot"] else None,
        _show_budget(found["budget"]) if found["budget"] else None,
        _show_assumed(found),
    )


def _headline(found: Mapping[str, Any]) -> list[tuple[object, object]]:
    from nexa_core.cli import look

    each, most = found["usd_per_accepted_row"], found["usd_per_accepted_row_most"]
    price = f"{_usd(each)} per accepted row" + (f", {_usd(most)} at most" if most else "")
    source = found["source_rows"]
    rows = show_many(found["accepted_rows"], "accepted row")
    of = f" from a source of {show_count(source)}" if source is not None else ""
    return [
        (look.say("price", "dim"), look.say(price, "bold")),
        (look.say("result", "dim"), rows + of),
        (look.say("cost", "dim"), _range(found)),
        (look.say("time", "dim"), f"about {show_span(found['seconds'])}"),
    ]


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else show_usd(usd)


def _range(sums: Mapping[str, Any]) -> str:
    """`$4.12, at most $19.80`; what is known of a cost that is unknown as a whole."""
    if sums["usd"] is None:
        known = f", {show_usd(sums['usd_known'])} of it known" if sums["usd_known"] else ""
        return f"unknown{known}"
    return f"{show_usd(sums['usd'])}, at most {_usd(sums['usd_most'])}"


def _show_roles(roles: Sequence[Mapping[str, Any]]) -> RenderableType:
    from nexa_core.cli import look

    rows = [
        (
            role["role"],
            role["model"],
            show_count(role["calls"]),
            show_count(role["prompt_tokens"]),
            show_count(role["completion_tokens"]),
            _usd(role["usd"]),
            _usd(role["usd_most"]),
            look.say(role["price"], "dim" if role["usd"] is not None else "yellow"),
        )
        for role in roles
    ]
    heads = ("role", "model", "calls", "prompt tokens", "answer tokens", "cost", "at most", "price")
    return look.block("Roles", look.table(heads, rows, right=range(2, 7)))


def _show_phases(phases: Sequence[Mapping[str, Any]]) -> RenderableType:
    from nexa_core.cli import look

    rows = [
        (
            phase["phase"],
            show_count(phase["rows"]),
            show_count(phase["rows_most"]),
            show_count(phase["calls"]),
            _usd(phase["usd"]),
            _usd(phase["usd_most"]),
            show_span(phase["seconds"]),
        )
        for phase in phases
    ]
    heads = ("phase", "rows", "at most", "calls", "cost", "at most", "time")
    return look.block("Phases", look.table(heads, rows, right=range(1, 7)))


def _show_pilot(pilot: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    rows = show_many(pilot["rows_expected"], "row")
    if pilot["chance"] is None:
        return look.block("Pilot", look.say(f"{rows}, and no rule that takes more."))
    slow = f"; '{pilot['slowest_rule']}' takes the most" if pilot["slowest_rule"] else ""
    words = (
        f"Begins with {show_many(pilot['rows_first'], 'row')}. At the assumed rates it has passed "
        f"after {show_count(pilot['rows_expected'])}{slow}, and an iteration passes with chance "
        f"{show_percent(pilot['chance'])}. Up to {show_many(pilot['max_iterations'], 'iteration')} "
        f"may take {show_count(pilot['rows_most'])}."
    )
    return look.block("Pilot", look.say(words))


def _show_budget(budget: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    usd, share = show_usd(budget["usd"]), show_usd(budget["pilot_usd"])
    if budget["fits"] is None:
        words = look.say(f"{usd}: whether the run fits is unknown, and it would not start.")
    elif not budget["pilot_fits"]:
        words = look.say(f"{share} of it are for the pilot, which does not fit.", "yellow")
    elif not budget["fits"]:
        bought = show_many(budget["accepted_rows"], "accepted row")
        words = look.say(f"{usd} do not suffice: they buy about {bought}.", "yellow")
    else:
        worst = "also at most" if budget["fits_at_most"] else "though not at its most"
        words = look.say(f"The run fits into {usd}, {worst}.")
    return look.block("Budget", words)


def _show_assumed(found: Mapping[str, Any]) -> RenderableType:
    """What was taken for granted; what somebody set stands out."""
    from nexa_core.cli import look

    assumed = found["assumed"]
    origins = dict.fromkeys(assumed["measured"], "; measured") | dict.fromkeys(
        assumed["given"], "; as you said"
    )
    lengths = [_show_length(step, origins) for step in found["steps"] if not step["retry"]]
    local = {"local", "hf"} & {role["model"].partition("/")[0] for role in found["roles"]}
    remote = len(local) < len({role["model"].partition("/")[0] for role in found["roles"]})
    named = _ASSUMED | (_ASSUMED_LOCAL if local else {}) | (_ASSUMED_REMOTE if remote else {})
    rest = [
        (look.say(name, "dim"), f"{assumed[name]:.3g}", words + origins.get(name, ""))
        for name, words in named.items()
    ]
    title = f"Assumed, over {show_many(found['sampled_rows'], 'rendered row')}"
    return look.block(title, look.columns([*rest[:1], *lengths, *rest[1:]], right=(1,)))


def _show_length(
    step: Mapping[str, Any], origins: Mapping[str, str]
) -> tuple[object, object, object]:
    from nexa_core.cli import look

    answer, prompt = step["completion_tokens"], step["prompt_tokens"]
    most, mean = show_count(answer["most"]), show_count(prompt["mean"])
    name = f"{step['step']}.tokens"
    words = (
        f"tokens an answer, {most} at most{origins.get(name, '')}; prompts of {mean}, counted by "
    )
    words += step["counted_by"]
    return look.say(name, "dim"), show_count(answer["expected"]), words


_ASSUMED = {
    "acceptance": "of the rows are accepted at the first attempt",
    "failure_part": "of a rule's limit is how often rows fail it",
}
_ASSUMED_LOCAL = {"local_tokens_per_second": "tokens a second on this machine, all together"}
_ASSUMED_REMOTE = {
    "concurrency": "remote calls at once, where the role says nothing",
    "first_token_seconds": "seconds to a remote answer's first token",
    "tokens_per_second": "tokens a second in one remote answer",
}
