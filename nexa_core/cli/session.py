"""What every command is given: the options that all commands take, and the workspace they mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nexa_core.plugins import Plugins
    from nexa_core.workspace import Workspace

__all__ = ["Command", "Group", "Session", "pass_session"]


@dataclass
class Session:
    """One command as it was typed."""

    as_json: bool = False
    workspace_path: Path | None = None
    workspace_plugins: bool = True
    debug: bool = False

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of --workspace, else the nearest one upwards."""
        from nexa_core.workspace import find_workspace

        return find_workspace(self.workspace_path)

    def load_plugins(self) -> Plugins:
        """Every plugin this command may use; notices go to stderr."""
        from nexa_core.cli import diagnostics
        from nexa_core.plugins import load_plugins

        return load_plugins(self.workspace, self.workspace_plugins, diagnostics.tell)


def _shared_options() -> list[click.Option]:
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    return [
        click.Option(
            ["--json", "as_json"], is_flag=True, help="Print one JSON object, errors too."
        ),
        click.Option(
            ["--workspace", "workspace_path"],
            type=folder,
            metavar="DIR",
            help="The workspace; else the nearest folder upwards with nexa.toml.",
        ),
        click.Option(
            ["--no-workspace-plugins", "workspace_plugins"],
            is_flag=True,
            flag_value=False,
            default=True,
            help="Run no code of the workspace.",
        ),
        click.Option(["--debug"], is_flag=True, help="Show tracebacks."),
    ]


class Command(click.Command):
    """A command with the options that all commands take; they reach it as a Session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared = _shared_options()
        self.own = list(self.params)
        self.params = [*self.own, *self.shared]

    def invoke(self, context: click.Context) -> Any:
        context.obj = Session(**{str(o.name): context.params.pop(str(o.name)) for o in self.shared})
        return super().invoke(context)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first, then those that every command has."""
        for title, options in (("Options", self.own), ("Every command", self.shared)):
            asked = [o for o in options if isinstance(o, click.Option)]
            records = [found for o in asked if (found := o.get_help_record(context))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group of commands under one word."""

    command_class = Command


pass_session = click.make_pass_decorator(Session)
