"""`nexa watch`: the screens."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.errors import UsageError
from nexa_core.figures import show_count, show_usd

if TYPE_CHECKING:
    from nexa_core.workspace import Workspace


@click.command(cls=Command)
@click.argument("run", required=False)
@pass_session
def watch(session: Session, run: str | None) -> None:
    """Watch runs: progress, gate, rows; sign decisions.

    Without RUN the list of runs; `latest` is the newest, or the first that comes. Reads what a
    run has written and never slows it; leaving does not stop it. `?` says what the keys do. With
    --json where the run stands is printed once.
    """
    from nexa_core.store.runs import list_runs as find_runs
    from nexa_core.store.runs import open_run

    workspace = session.workspace
    artifacts = workspace.artifacts_path
    comes = run == "latest" and _is_terminal() and not session.as_json and not find_runs(artifacts)
    found = open_run(artifacts, run).id if run is not None and not comes else None
    if session.as_json:
        from nexa_core.actions.inspecting import list_runs, read_run

        output.print_json(read_run(found, workspace) if found else list_runs(workspace))
        return
    if not _is_terminal():
        raise UsageError(
            "`nexa watch` needs a terminal.",
            f"`nexa status {run or 'latest'}` prints where a run stands.",
        )
    output.draw_curtain(_first_lines(workspace, found))
    try:
        from nexa_core.tui.app import NexaApp

        app = NexaApp(workspace, found, awaits=comes)
    except BaseException:
        output.lift_curtain()
        raise
    app.run()


def _first_lines(workspace: Workspace, run: str | None) -> list[str]:
    """What is there to see at once: loading the screens takes most of a second."""
    head = " nexa   Runs   Run   Gate   Rows"
    if run is None:
        return [head]
    from nexa_core.actions.following import Follower

    follower = Follower(workspace.artifacts_path / run)
    progress = follower.progress
    width = shutil.get_terminal_size().columns
    name = f"{run}  {follower.status}"
    phase = progress.phase.name if progress.phase else "starting"
    states = ("accepted", "rejected", "failed")
    rows = "   ".join(f"{show_count(progress.rows.get(state, 0))} {state}" for state in states)
    paid = show_usd(progress.cost_usd)
    return [
        f"{head}{name:>{max(1, width - len(head) - 1)}}",
        "",
        f" {phase}",
        "",
        f" {rows}",
        f" money  {paid}",
    ]


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
