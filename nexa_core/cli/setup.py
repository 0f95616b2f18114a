"""`nexa init` and `nexa doctor`: a workspace to work in, and a machine to work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session
from nexa_core.figures import show_many

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nexa_core.actions.setting_up import Finding

_TITLES = {
    "machine": "Machine",
    "plugins": "Plugins",
    "extras": "Optional parts",
    "keys": "Keys",
    "pipelines": "Pipelines",
    "endpoints": "Endpoints",
    "command": "Command",
}
_MARKS = {"ok": "✓", "missing": "–", "problem": "✗"}


@click.command(cls=Command)
@click.argument("target", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
@pass_session
def init(session: Session, target: Path) -> None:
    """Make a workspace here, from the shipped files.

    DIR is the current folder when it is not given. Nothing that exists is overwritten.
    """
    from nexa_core.actions.setting_up import init as make

    output.answer(session.as_json, make(target), lambda made: _show_made(made, target))


@click.command(cls=Command)
@pass_session
def doctor(session: Session) -> int:
    """Check this machine, and say what is missing for what.

    Exit code 2 when something that this workspace wants cannot work.
    """
    from nexa_core.actions.setting_up import examine

    findings = examine(session.workspace, session.load_plugins())
    problems = sum(finding.level == "problem" for finding in findings)
    value = {"problems": problems, "findings": [finding.as_json() for finding in findings]}
    output.answer(session.as_json, value, lambda _: show_findings(findings))
    return 2 if problems else 0


def _show_made(made: Mapping[str, Any], target: Path) -> RenderableType:
    from nexa_core.cli import look

    here = target.resolve() == Path.cwd()
    marks = [
        (look.say(outcome, style), name, look.say("  ".join(files), "dim"))
        for outcome, style in (("created", "green"), ("kept", "dim"))
        for name, files in _by_folder(made[outcome]).items()
    ]
    first = "nexa demo" if here else f"cd {target} && nexa demo"
    return look.stack(
        look.line("Workspace ", (made["workspace"], "bold")),
        look.blank(),
        look.columns(marks),
        look.blank(),
        look.line(("Next  ", "dim"), first),
    )


def _by_folder(names: Sequence[str]) -> dict[str, list[str]]:
    """Files by their first folder; a file outside every folder stands for itself."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, slash, rest = name.partition("/")
        files = folders.setdefault(folder + slash, [])
        if rest:
            files.append(rest)
    return folders


def show_findings(findings: Sequence[Finding]) -> RenderableType:
    """Findings by topic: what is there, what is missing, what that would enable, what mends it."""
    from nexa_core.cli import look

    parts: list[RenderableType] = []
    for topic, title in _TITLES.items():
        of_topic = [finding for finding in findings if finding.topic == topic]
        if of_topic:
            rows = [row for finding in of_topic for row in _rows(finding)]
            parts.append(look.block(title, look.columns(rows)))
    problems = sum(finding.level == "problem" for finding in findings)
    missing = sum(finding.level == "missing" for finding in findings)
    verdict = show_many(problems, "problem") if problems else "Nothing is broken"
    summary = f"{verdict}, {show_many(missing, 'optional thing')} missing."
    return look.stack(*parts, look.blank(), look.say(summary))


def _rows(finding: Finding) -> list[tuple[object, ...]]:
    from nexa_core.cli import look

    mark = look.say(_MARKS[finding.level], look.style_of(finding.level))
    rows: list[tuple[object, ...]] = [(mark, finding.name, finding.detail)]
    if finding.enables:
        word = "for" if finding.level == "ok" else "would enable"
        rows.append(("", "", look.say(f"{word} {finding.enables}", "dim")))
    if finding.fix:
        rows.append(("", "", look.line(("→ ", "dim"), finding.fix)))
    return rows
