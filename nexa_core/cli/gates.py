"""`nexa gate` and `nexa accept`: what was decided and why, and what another rule would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.campaigns import with_sets
from nexa_core.cli.session import Command, Group, Session, pass_session
from nexa_core.figures import show_many

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.group(cls=Group)
def gate() -> None:
    """Show, replay, verify or sign what the gate decided."""


@gate.command(cls=Command)
@click.argument("run", default="latest")
@click.option("--review", type=click.IntRange(1), metavar="N", help="Record N; else the last.")
@click.option("--md", "as_md", is_flag=True, help="As Markdown, for a pull request.")
@pass_session
def show(session: Session, run: str, review: int | None, as_md: bool) -> None:
    """Explain what the gate decided.

    What was measured, how sure that is, what would have passed and how many rows more; the reviewers'
    opinions, the patch, what was tried before. With --json: every record as it is.
    """
    from nexa_core.actions.reviewing import gate_show
    from nexa_core.cli.reviewed import choose_record, show_trail

    records = gate_show(run, workspace=session.workspace)
    if session.as_json:
        chosen = [choose_record(records, review)] if review else records
        output.answer(True, [one.as_json() for one in chosen], str)
    elif as_md:
        from nexa_core.reviews import render_review

        output.print_text(render_review(choose_record(records, review)).rstrip("\n"))
    else:
        output.answer(False, (records, review), lambda found: show_trail(*found))


@gate.command(cls=Command)
@click.argument("run", default="latest")
@pass_session
def replay(session: Session, run: str) -> int:
    """Compute every decision again from its record, and compare.

    Exit code 1 when one differs from what was recorded.
    """
    from nexa_core.actions.reviewing import gate_replay

    result = gate_replay(run, workspace=session.workspace)
    output.answer(session.as_json, result, _show_replay)
    return 1 if result["differences"] else 0


@gate.command(cls=Command)
@click.argument("run", default="latest")
@pass_session
def verify(session: Session, run: str) -> int:
    """Check that no record of a run was edited, removed or added.

    Reads the records, the signatures, and the heads that the events and the dataset keep. Exit code
    1 when something is not as it was written.
    """
    from nexa_core.actions.reviewing import gate_verify

    result = gate_verify(run, workspace=session.workspace)
    output.answer(session.as_json, result, _show_verified)
    return 1 if result["problems"] else 0


@gate.command(cls=Command)
@click.argument("run")
@click.option("--proceed", "decision", flag_value="PROCEED", help="Go on to scale as it is.")
@click.option("--iterate", "decision", flag_value="ITERATE", help="Another pilot; see --set.")
@click.option("--stop", "decision", flag_value="STOP", help="End the run here.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the record.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    help="With --iterate: a parameter inside search_space. Without: what the reviewers proposed.",
)
@click.option(
    "--review", metavar="RECORD", help="The number or hash you saw; refused if it is old."
)
@click.option("--as", "signer", metavar="NAME", help="Who signs; else the name git knows.")
@pass_session
def sign(
    session: Session,
    run: str,
    decision: str | None,
    reason: str,
    sets: Sequence[str],
    review: str | None,
    signer: str | None,
) -> None:
    """Decide in a person's name, with the workspace's key.

    A rule that failed is overridden by --proceed, and every later artefact says so.
    `nexa resume RUN` goes on from the signature.
    Example: nexa gate sign latest --iterate --reason "still too long" --set respond.sampling.temperature=0.3
    """
    from nexa_core.actions.signing import sign as sign_run
    from nexa_core.errors import UsageError

    if decision is None:
        raise UsageError("A signature needs a decision.", "Add --proceed, --iterate or --stop.")
    record = sign_run(
        run,
        decision,
        reason,
        sets or None,
        workspace=session.workspace,
        review=review,
        signer=signer,
    )
    output.answer(session.as_json, record.as_json(), _show_signed)


@click.command(cls=Command)
@click.argument("run", default="latest")
@with_sets
@pass_session
def accept(session: Session, run: str, sets: Sequence[str]) -> None:
    """Decide again which rows are accepted, with no call.

    Reads the stored scores, changes nothing, and says what the other rule would newly need. Without
    --set: how many rows each threshold would keep.
    Example: nexa accept latest --set accept.min_score=0.75
    """
    from nexa_core.actions.reaccepting import reaccept

    result = reaccept(run, sets, workspace=session.workspace)
    if not sets:
        from nexa_core.actions.thresholds import list_thresholds
        from nexa_core.store.runs import open_run

        found = open_run(session.workspace.artifacts_path, run)
        result["thresholds"] = list_thresholds(found, session.workspace)
    output.answer(session.as_json, result, _show_accepted)


def _show_replay(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    if not result["differences"]:
        return look.say(f"{show_many(result['records'], 'decision')}, every one as recorded.")
    lines = [
        look.say(one if isinstance(one, str) else output.write_json(one), "red")
        for one in result["differences"]
    ]
    return look.stack(
        look.say(f"{len(lines)} of {show_many(result['records'], 'decision')} not as recorded:"),
        *lines,
    )


def _show_verified(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    signed = [
        look.say(
            f"Record {one['record']} is signed by {one['signer']}, key {one['key']}{_owner(one)}"
        )
        for one in result["signatures"]
    ]
    if not result["problems"]:
        held = f", their end held by {' and '.join(result['heads'])}" if result["heads"] else ""
        return look.stack(
            look.say(f"{show_many(result['records'], 'record')} as written{held}."), *signed
        )
    return look.stack(
        *(look.say(problem, "red") for problem in result["problems"]),
        *signed,
    )


def _owner(signature: Mapping[str, Any]) -> str:
    return " of this workspace." if signature["ours"] else ", which this workspace does not have."


def _show_signed(record: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.cli.trail import show_changes

    return look.stack(
        look.line((f"Record {record['number']}  ", "bold"), record["reason"]),
        *show_changes(record["changes"]),
        look.line(("Next  ", "dim"), (f"nexa resume {record['run']}", "bold")),
    )


def _show_thresholds(lines: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per threshold; where scores are missing or rows would be tried again, it may be more."""
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_share

    rows = [
        (
            line["term"],
            f"≥ {line['at_least']:g}",
            show_count(line["accepted"]),
            show_share(line["share"]),
            f"and up to {show_count(line['unknown'])} that only calls would tell"
            if line["unknown"]
            else "",
            look.say("now", "green") if line["now"] else "",
        )
        for line in lines
    ]
    return look.block("At other thresholds", look.columns(rows, right=(1, 2, 3)))


def _show_accepted(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.figures import show_count

    before, after = result["rows_before"], result["rows_after"]
    rows = [
        (
            look.say(state, look.style_of(state)),
            show_count(before.get(state, 0)),
            "→",
            show_count(after.get(state, 0)),
        )
        for state in dict.fromkeys([*before, *after])
    ]
    reasons = [(reason, show_count(n)) for reason, n in (result.get("by_reason") or {}).items()]
    told = f"with {', '.join(result['sets'])}" if result["sets"] else "with its own rule"
    return look.stack(
        look.line((result["run"], "bold"), f"  {told}, and no call:"),
        look.inset(look.columns(rows, right=(1, 3))),
        look.block("Rejected by", look.columns(reasons, right=(1,))) if reasons else None,
        _show_unknown(result),
        _show_thresholds(result["thresholds"]) if result.get("thresholds") else None,
    )


def _show_unknown(result: Mapping[str, Any]) -> RenderableType | None:
    """What stored scores cannot tell, in a line each."""
    from nexa_core.cli import look
    from nexa_core.figures import show_many

    told = [
        f"{show_many(n, 'row')} without a score of {what}, which calls would give"
        for what, n in result["would_need"].items()
    ]
    if again := result["would_retry"]:
        told.append(f"{show_many(again, 'rejected row')} that would be tried again, by calls")
    told += [
        f"{show_many(n, 'accepted row')} that {what} never saw, and may reject"
        for what, n in result["unchecked"].items()
    ]
    return look.block("Not known", *map(look.say, told)) if told else None
