"""`nexa export`: a packaged dataset elsewhere, with what another trainer needs to start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session


@click.command(cls=Command)
@click.argument("run", default="latest")
@click.option("--to", required=True, metavar="PLACE", help="dir:PATH, s3://… or hub:OWNER/NAME.")
@click.option(
    "--recipe",
    type=click.Choice(["trl", "axolotl", "unsloth"]),
    help="Put a configuration beside the data that starts as it is.",
)
@pass_session
def export(session: Session, run: str, to: str, recipe: str | None) -> None:
    """Copy a packaged dataset to a folder, a store or the hub.

    RUN may be the folder of a dataset. Files are compared with the manifest first. On the hub the
    repository is private; HF_TOKEN names who writes, HF_ENDPOINT another hub.
    """
    from nexa_core.actions.exporting import export_dataset

    done = export_dataset(run, to, recipe, workspace=session.workspace)
    output.answer(session.as_json, done, _show)


def _show(done: Mapping[str, Any]) -> str:
    return f"{done['to']}  {done['files']} files, {done['bytes']:,} bytes"
