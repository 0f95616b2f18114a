"""`nexa plugins` and `nexa schema`: what is installed, and what the files may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Group, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nexa_core.plugins import Listing


@click.group(cls=Group)
def plugins() -> None:
    """List what is installed."""


@plugins.command("list", cls=Command)
@pass_session
def list_(session: Session) -> None:
    """List plugins, what each provides, and those that are broken."""
    found = session.load_plugins()
    listing = found.listing()
    value = {"plugins": [one.as_json() for one in listing], "warnings": found.warnings}
    output.answer(session.as_json, value, lambda _: _show(listing, found.warnings))


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["pipeline", "gate"]))
@pass_session
def schema(_session: Session, kind: str) -> None:
    """Print the JSON Schema of a pipeline or a gate file.

    Editors read it: put `# yaml-language-server: $schema=FILE` on the first line of a file.
    """
    from nexa_core.actions.schemas import gate_schema, pipeline_schema

    output.print_json(pipeline_schema() if kind == "pipeline" else gate_schema())


def _show(listing: Sequence[Listing], warnings: Sequence[str]) -> RenderableType:
    from nexa_core.cli import look

    rows: list[tuple[object, ...]] = []
    for one in listing:
        source = f"{one.distribution} {one.version}".strip()
        offers = [(kind, ", ".join(names)) for kind, names in (one.specs or {}).items()]
        if one.error:
            offers.append(("broken", one.error))
        for at, (kind, names) in enumerate(offers or [("", "")]):
            style = "red" if kind == "broken" else "dim"
            head = (look.say(one.name, "bold"), look.say(source, "dim")) if at == 0 else ("", "")
            rows.append((*head, look.say(kind, style), names))
    if not rows:
        return look.say("No plugin is installed.")
    notes = [look.line(("warning  ", "yellow"), text) for text in warnings]
    return look.stack(look.columns(rows), *([look.blank(), *notes] if notes else []))
