"""`nexa runs` and `nexa stop`: which runs there are, and ending or removing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Group, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.group(cls=Group)
def runs() -> None:
    """List or remove runs."""


@runs.command("list", cls=Command)
@pass_session
def list_(session: Session) -> None:
    """List every run, the newest first."""
    from nexa_core.actions.inspecting import list_runs

    output.answer(session.as_json, list_runs(session.workspace), show_runs)


@runs.command("rm", cls=Command)
@click.argument("run", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def remove(session: Session, run: Sequence[str], yes: bool) -> None:
    """Remove the folders of runs.

    Reviews of their gates stay in reviews/. A run that is being worked on is refused.
    """
    from nexa_core.actions.inspecting import name_runs, remove_runs

    names = name_runs(run, session.workspace)
    if not (yes or session.as_json):
        click.confirm(f"Remove {', '.join(names)} and everything in it?", abort=True, err=True)
    removed = remove_runs(names, session.workspace)
    output.answer(session.as_json, {"removed": removed}, _show_removed)


@click.command(cls=Command)
@click.argument("run", default="latest")
@pass_session
def stop(session: Session, run: str) -> None:
    """Ask a run that is under way to stop.

    What is under way is journaled first, and `nexa resume` goes on from there. Without RUN: the latest.
    """
    from nexa_core.actions.inspecting import stop_run

    output.answer(session.as_json, stop_run(run, session.workspace), _show_stopped)


def show_runs(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Runs as a table."""
    from nexa_core.cli import look

    if not runs:
        return look.say("No runs yet. `nexa demo` makes one.")
    heads = ("run", "status", "phase", "accepted", "cost", "begun")
    return look.table(heads, [_row(run) for run in runs], right=(3, 4))


def _row(run: Mapping[str, Any]) -> tuple[object, ...]:
    from nexa_core.cli import look
    from nexa_core.figures import show_age, show_count, show_usd

    word = look.say(run["status"], look.style_of(run["status"]))
    if "error" in run:
        return (run["run"], word, look.say(run["error"], "dim"), "", "", "")
    return (
        run["run"],
        word,
        run["phase"] or "",
        show_count(run["rows"].get("accepted", 0)),
        show_usd(run["cost_usd"]),
        look.say(show_age(run["created_at"]), "dim"),
    )


def _show_removed(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    return look.say(f"Removed {', '.join(result['removed'])}.")


def _show_stopped(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    if result["pid"] is None:
        return look.say(f"No process works on '{result['run']}'. Nothing to stop.")
    return look.say(
        f"Process {result['pid']} was asked to stop '{result['run']}'. "
        f"`nexa resume {result['run']}` goes on."
    )
