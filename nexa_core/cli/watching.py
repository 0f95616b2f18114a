"""`nexa watch`: the screens."""

from __future__ import annotations

import os
import sys

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.errors import UsageError


@click.command(cls=Command)
@click.argument("run", required=False)
@pass_session
def watch(session: Session, run: str | None) -> None:
    """Watch runs: progress, gate, rows; sign decisions.

    Without RUN the list of runs; `latest` is the newest. Reads what a run has written and never
    slows it; leaving does not stop it. `?` says what the keys do. With --json where the run stands
    is printed once.
    """
    from nexa_core.store.runs import open_run

    workspace = session.workspace
    found = open_run(workspace.artifacts_path, run).id if run is not None else None
    if session.as_json:
        from nexa_core.actions.inspecting import list_runs, read_run

        output.print_json(read_run(found, workspace) if found else list_runs(workspace))
        return
    if not _is_terminal():
        raise UsageError(
            "`nexa watch` needs a terminal.",
            f"`nexa status {run or 'latest'}` prints where a run stands.",
        )
    from nexa_core.tui.app import NexaApp

    NexaApp(workspace, found).run()


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
