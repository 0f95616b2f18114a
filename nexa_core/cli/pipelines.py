"""`nexa validate` and `nexa preview`: what a pipeline would do, before it is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import diagnostics, output
from nexa_core.cli.campaigns import with_sets
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

    found = check(file, sets, session.workspace)
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

    output.answer(session.as_json, take(file, sets, rows, session.workspace), show_rows)


def show_plan(found: Mapping[str, Any]) -> RenderableType:
    """A pipeline that reads well, and its plan."""
    from nexa_core.cli import look

    return look.stack(
        look.line((found["pipeline"], "bold"), ("  valid  ", "green"), (found["hash"][:12], "dim")),
        look.blank(),
        look.describe(found["plan"]),
    )


def show_rows(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Each row's way through the steps."""
    from nexa_core.cli import look

    parts: list[RenderableType] = []
    for row in rows:
        parts.append(look.block(f"Row {row['row']}", *(_show_step(step) for step in row["steps"])))
        rest = {key: value for key, value in row.items() if key not in ("row", "steps")}
        if rest:
            parts.append(look.inset(look.describe(rest)))
    return look.stack(*parts)


def _show_step(step: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    rest = {key: value for key, value in step.items() if key != "step" and value not in (None, "", {})}
    return look.stack(look.say(step["step"], "cyan"), look.inset(look.describe(rest)))
