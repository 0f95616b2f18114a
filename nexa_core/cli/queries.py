"""`nexa query`: SQL over the rows and calls of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@click.argument("sql")
@click.option(
    "--run",
    default="latest",
    show_default=True,
    metavar="RUN|latest|all",
    help="Whose rows and calls.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@pass_session
def query(session: Session, sql: str, run: str, as_csv: bool) -> None:
    """Ask the rows and calls of runs in SQL.

    Views: rows, calls, scores (a line per row and score), events. One SELECT, in DuckDB's SQL; it
    reads the run's files and can touch nothing else.

    \b
    nexa query 'select state, reason, count(*) from rows group by all order by 3 desc'
    nexa query 'select name, avg(value) from scores group by 1' --run all --csv
    """
    from nexa_core.actions.querying import query_runs

    found = query_runs(sql, run, session.workspace)
    if as_csv and not session.as_json:
        output.print_csv(found["columns"], found["rows"])
        return
    output.answer(session.as_json, found, _show)


def _show(found: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    numeric = [at for at, kind in enumerate(found["types"]) if _is_number(kind)]
    rows = [[_cell(value) for value in row] for row in found["rows"]]
    return look.table(found["columns"], rows, right=numeric)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return output.write_json(value, indent=None) if isinstance(value, (dict, list)) else str(value)


def _is_number(kind: str) -> bool:
    """Whether DuckDB's name of a type is that of a number; not of a list or a struct of them."""
    return (
        re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\([^)]*\)", kind)
        is not None
    )
