"""`nexa run` and its kin: everything that makes a run, or takes one up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from nexa_core.engine.campaign import Outcome

Function = Callable[..., Any]


def with_sets(function: Function) -> Function:
    """Add --set to a command."""
    return click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="PATH=VALUE",
        help="Put a value over the file's: step id or section first. Repeatable.",
    )(function)


def with_run_id(function: Function) -> Function:
    """Add --run-id to a command that makes a run."""
    return click.option(
        "--run-id",
        metavar="ID",
        help="The run's name; an existing run with the same pipeline resumes.",
    )(function)


def with_reuse(function: Function) -> Function:
    """Add --reuse to a command that makes a run."""
    return click.option(
        "--reuse",
        multiple=True,
        metavar="RUN",
        help="Take replies of earlier runs for nothing: a run, latest or none. Repeatable.",
    )(function)


@click.command(cls=Command)
@click.argument("file")
@with_sets
@with_run_id
@with_reuse
@click.option(
    "--rehearse",
    is_flag=True,
    help="Every remote model is a local server with faults: limits and budget work, nothing costs.",
)
@click.option("--allow-short", is_flag=True, help="Package also when fewer rows were accepted.")
@pass_session
def run(
    session: Session,
    file: str,
    sets: Sequence[str],
    run_id: str | None,
    reuse: Sequence[str],
    rehearse: bool,
    allow_short: bool,
) -> int:
    """Pilot, gate, scale, package, train, evaluate.

    FILE is a pipeline file, or the name of a shipped one: `bootstrap`, `distill`, `audit`.

    \b
    Exit codes: 0 done · 1 the gate said no, or short · 2 usage · 3 plugin · 4 step
                5 store · 6 budget · 10 waiting · 130 interrupted · 143 terminated
    """
    settings = {"sets": sets, "run_id": run_id, "allow_short": allow_short, "reuse": reuse}
    settings["rehearsal"] = rehearse
    return carry_out(session, "run_pipeline", file, **settings)


@click.command(cls=Command)
@click.argument("file")
@with_sets
@with_run_id
@with_reuse
@pass_session
def pilot(
    session: Session, file: str, sets: Sequence[str], run_id: str | None, reuse: Sequence[str]
) -> int:
    """Only the pilot and its gate.

    `nexa scale RUN` goes on from there.
    """
    return carry_out(
        session,
        "run_pipeline",
        file,
        sets=sets,
        run_id=run_id,
        phases=("pilot",),
        reuse=reuse,
    )


@click.command(cls=Command)
@click.argument("run", default="latest")
@with_sets
@pass_session
def scale(session: Session, run: str, sets: Sequence[str]) -> int:
    """Scale a run whose pilot has passed.

    Without RUN: the latest.
    """
    return carry_out(session, "scale_run", run, sets=sets)


@click.command(cls=Command)
@click.argument("run", default="latest")
@with_sets
@click.option(
    "--salvage",
    is_flag=True,
    help="Take what is whole of a damaged journal; its lost calls are asked again.",
)
@click.option("--retry-failed", is_flag=True, help="Ask again for rows that failed.")
@pass_session
def resume(
    session: Session, run: str, sets: Sequence[str], salvage: bool, retry_failed: bool
) -> int:
    """Take a run up again where it ended.

    What is committed stays, and what was paid for is replayed for nothing. Only budget and
    `fail_over` may change. Without RUN: the latest.
    """
    settings: dict[str, Any] = {}
    if salvage or retry_failed:
        from nexa_core.actions.carrying import Conduct

        settings["conduct"] = Conduct(salvage=salvage, retry_failed=retry_failed)
    return carry_out(session, "resume_run", run, sets=sets, **settings)


@click.command(cls=Command)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--ask", is_flag=True, help="Wait at the gate for a person: see nexa watch.")
@with_run_id
@pass_session
def demo(session: Session, seed: int, ask: bool, run_id: str | None) -> int:
    """Run the whole campaign on the embedded model.

    A real model of about 3 million parameters, no key and no download: pilot, gate, other
    parameters, scale, QLoRA, base against tuned.
    """
    return carry_out(session, "demo", seed=seed, ask=ask, run_id=run_id)


def carry_out(session: Session, action: str, *arguments: Any, **settings: Any) -> int:
    """Call an action of `actions.running` while its run is shown on stderr; print how it ended."""
    from nexa_core.cli.display import Display

    workspace = session.workspace
    with Display(workspace) as display:
        from nexa_core.actions import running

        if action != "demo":  # the demo is the shipped pipeline and runs no code of a workspace
            settings["workspace_plugins"] = session.workspace_plugins
        call = getattr(running, action)
        outcome: Outcome = call(
            *arguments, workspace=workspace, listeners=(display.listen,), **settings
        )
    output.answer(session.as_json, outcome.as_json(), _show)
    return outcome.exit_code


def _show(outcome: dict[str, Any]) -> Any:
    from nexa_core.cli.summary import show_outcome

    return show_outcome(outcome)
