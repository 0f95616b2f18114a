"""SQL over the files of runs: four views, one SELECT, and no way to anything else on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa_core.errors import UsageError
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import list_runs, open_run
from nexa_core.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

__all__ = ["VIEWS", "query_runs"]

VIEWS = ("rows", "calls", "scores", "events")
_READS = ("SELECT", "EXPLAIN")
_ZONED = "TIMESTAMP WITH TIME ZONE"

_EMPTY = {
    "rows": "run VARCHAR, unit VARCHAR, id VARCHAR, source_id VARCHAR, state VARCHAR, reason VARCHAR",
    "calls": "run VARCHAR, unit VARCHAR, call_id VARCHAR, row_id VARCHAR, step VARCHAR, role VARCHAR",
}
# Names and paths below come from run folders and are quoted as literals by `_quote`.
# ruff: noqa: S608
_UNIT = r"'([^/\\]+)[/\\](iterations[/\\][0-9]+|scale)[/\\]shards[/\\]'"


def query_runs(sql: str, run: str, workspace: Workspace) -> dict[str, Any]:
    """The columns, types and rows of one SELECT over a run, `latest`, or `all` runs of a workspace.

    Views: `rows` and `calls` as stored, with `run` and `unit` before; `scores` has run, unit, row_id,
    state, name, value; `events` has run, seq, logged_at, event, data (JSON). Only committed shards are seen.

    Raises:
        UsageError: It is no single SELECT, or DuckDB refuses it.
    """
    import duckdb

    runs = (
        list_runs(workspace.artifacts_path)
        if run == "all"
        else [open_run(workspace.artifacts_path, run)]
    )
    connection = duckdb.connect(":memory:")
    try:
        _make_views(connection, runs)
        return _fetch(connection, _read_statement(connection, sql))
    except (RuntimeError, duckdb.InterruptException) as cause:
        if "interrupted" not in str(cause).lower():
            raise
        raise KeyboardInterrupt from cause  # what DuckDB makes of Ctrl-C
    except duckdb.Error as cause:
        raise UsageError(f"The query does not work: {_first_lines(cause)}", _FIX) from cause
    finally:
        connection.close()


_FIX = f"Views are {', '.join(VIEWS)}; `describe rows` lists columns."


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    found = connection.execute(query)
    described = [(str(column[0]), str(column[1])) for column in found.description or []]
    zoned = [name for name, kind in described if kind == _ZONED]
    if zoned:
        # DuckDB hands zoned times to Python through pytz; UTC without the zone needs nothing.
        names = ['"' + name.replace('"', '""') + '"' for name in zoned]
        casts = ", ".join(f"make_timestamp(epoch_us({name})) AS {name}" for name in names)
        found = connection.execute(f"SELECT * REPLACE ({casts}) FROM ({query})")
    return {
        "columns": [name for name, _ in described],
        "types": [kind for _, kind in described],
        "rows": [list(row) for row in found.fetchall()],
    }


def _read_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one SELECT in what was typed, without a semicolon."""
    statements = connection.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if len(statements) != 1 or kinds[0] not in _READS:
        what = " and ".join(kinds) or "nothing"
        raise UsageError(
            f"'{sql}' is no single SELECT, but {what}.", "Runs are read here, never changed."
        )
    return str(statements[0].query).strip().rstrip(";")


def _make_views(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> None:
    """Make the views, then shut the door: no file but theirs, no network, no setting."""
    folders = [folder for run in runs for folder in (*run.iterations(), run.scale)]
    rows = _committed(folders, ".parquet")
    calls = _committed(folders, ".calls.parquet")
    events = [run.events_path for run in runs if run.events_path.is_file()]
    _make_view(connection, "rows", rows)
    _make_view(connection, "calls", calls)
    _make_scores(connection)
    _make_events(connection, events)
    allowed = ", ".join(_quote(path) for path in (*rows, *calls, *events))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _committed(folders: Sequence[ShardFolder], ending: str) -> list[Path]:
    """Files of shards that a manifest names: others are leftovers of a run that was cut short."""
    paths = [
        folder.shards / f"{entry.shard:05d}{ending}"
        for folder in folders
        for entry in read_manifest(folder.path)
    ]
    return [path.resolve() for path in paths if path.is_file()]


def _make_view(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> None:
    if not files:
        connection.execute(f"CREATE TABLE {name} ({_EMPTY[name]})")
        return
    listed = ", ".join(map(_quote, files))
    connection.execute(
        f"CREATE VIEW {name} AS SELECT regexp_extract(filename, {_UNIT}, 1) AS run, "
        f"regexp_extract(filename, {_UNIT}, 2) AS unit, * EXCLUDE (filename) "
        f"FROM read_parquet([{listed}], union_by_name = true, filename = true)"
    )


def _make_scores(connection: duckdb.DuckDBPyConnection) -> None:
    """A line per row and score; rows of runs without a score do not appear."""
    columns = [str(column[0]) for column in connection.execute("DESCRIBE rows").fetchall()]
    names: list[str] = []
    if "scores" in columns:
        fields = connection.execute("DESCRIBE SELECT scores.* FROM rows").fetchall()
        names = [str(field[0]) for field in fields]
    selects = [
        f"SELECT run, unit, id AS row_id, state, {_quote(name)} AS name, "
        f"CAST(struct_extract(scores, {_quote(name)}) AS DOUBLE) AS value FROM rows"
        for name in names
    ]
    if not selects:
        connection.execute(
            "CREATE TABLE scores (run VARCHAR, unit VARCHAR, row_id VARCHAR, state VARCHAR, "
            "name VARCHAR, value DOUBLE)"
        )
        return
    every = " UNION ALL ".join(selects)
    connection.execute(f"CREATE VIEW scores AS SELECT * FROM ({every}) WHERE value IS NOT NULL")


def _make_events(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    if not files:
        connection.execute(
            "CREATE TABLE events (run VARCHAR, seq BIGINT, logged_at TIMESTAMP, event VARCHAR, data JSON)"
        )
        return
    listed = ", ".join(map(_quote, files))
    folder = r"'([^/\\]+)[/\\]events.jsonl$'"
    connection.execute(
        f"CREATE VIEW events AS SELECT regexp_extract(filename, {folder}, 1) AS run, "
        "CAST(json->>'seq' AS BIGINT) AS seq, CAST(json->>'at' AS TIMESTAMP) AS logged_at, "
        "json->>'event' AS event, json AS data "
        f"FROM read_ndjson_objects([{listed}], ignore_errors = true, filename = true) "
        "WHERE json IS NOT NULL"
    )


def _quote(text: object) -> str:
    """A string literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def _first_lines(cause: Exception) -> str:
    """DuckDB's message without its drawing of the query."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("LINE ", "^"))]
    return " ".join(kept[:3])
