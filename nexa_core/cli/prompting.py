"""`nexa prompts`: what a model would be asked, and whether every prompt holds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.campaigns import with_sets
from nexa_core.cli.session import Command, Group, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.group(cls=Group)
def prompts() -> None:
    """Show and check prompts."""


@prompts.command("show", cls=Command)
@click.argument("file")
@click.option("--row", type=click.IntRange(1), default=1, show_default=True, help="Of the source.")
@click.option("--step", metavar="ID", help="Only this step of a pipeline.")
@click.option("--source", metavar="PATH", help="Where a prompt file's row comes from.")
@with_sets
@pass_session
def show(
    session: Session, file: str, row: int, step: str | None, source: str | None, sets: Sequence[str]
) -> None:
    """Print the messages that a model would be sent for a row.

    FILE is a pipeline, a prompt file, or the name of either. No model is asked: what earlier steps
    will write stands as its name in ⟨⟩.
    """
    from nexa_core.actions.prompting import show_prompt

    shown = show_prompt(
        file,
        row,
        workspace=session.workspace,
        step=step,
        source=source,
        sets=sets,
        workspace_plugins=session.workspace_plugins,
    )
    output.answer(session.as_json, {"prompts": shown}, _show)


@prompts.command("check", cls=Command)
@click.argument("files", metavar="[FILE]...", nargs=-1)
@pass_session
def check(session: Session, files: Sequence[str]) -> int:
    """Check that prompts compile and have what they use.

    Inputs are compared with the templates, and in pipelines with the columns of the source. Without
    FILE: every prompt and pipeline of the workspace. Exit code 2 when anything is wrong.
    """
    from nexa_core.actions.prompting import check_prompts

    plugins = session.workspace_plugins
    found = check_prompts(files, workspace=session.workspace, workspace_plugins=plugins)
    output.answer(session.as_json, found, _show_check)
    return 2 if found["faults"] else 0


def _show(found: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    parts: list[Any] = []
    for one in found["prompts"]:
        head = f"  {one['prompt']} version {one['version']}  {one['hash'][:12]}"
        inputs = ", ".join([*one["inputs"], *(f"⟨{name}⟩" for name in one["not_there_yet"])])
        parts += [look.line((one["step"], "bold"), (head, "dim")), look.say(f"inputs {inputs}")]
        for turn in one["messages"]:
            parts += [look.say(turn["role"], "dim"), look.inset(look.say(turn["content"]))]
        parts.append(look.blank())
    return look.stack(*parts)


def _show_check(found: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    rows = [
        (one["prompt"], one["hash"][:12], ", ".join(one["inputs"]), one["file"])
        for one in found["prompts"]
    ]
    parts: list[Any] = [look.columns(rows)] if rows else []
    for fault in found["faults"]:
        place = f"{fault['file']}:{fault['line']}" if fault["line"] else fault["file"] or ""
        parts += [look.blank(), look.line((place, "bold"), f"  {fault['message']}")]
        parts += [look.say(str(fault["fix"]), "dim")] if fault["fix"] else []
    return look.stack(*(parts or [look.say("There is no prompt here.")]))
