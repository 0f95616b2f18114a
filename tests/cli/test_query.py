"""SQL over runs: what it sees, and that it reaches nothing else."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest


def ask(invoke, sql: str, *options: str):
    """Columns and rows of a query."""
    done = invoke("query", sql, "--json", *options)
    assert done.code == 0, done.out
    return json.loads(done.out)


def test_rows_calls_scores_and_events(run, invoke):
    """Every view is there, each row with its run and unit."""
    assert ask(invoke, "select unit, count(*) from rows group by 1 order by 1")["rows"] == [
        ["iterations/01", 10],
        ["iterations/02", 10],
        ["scale", 3],
    ]
    assert ask(invoke, "select count(*) from calls join rows on row_id = id")["rows"] == [[23]]
    assert ask(invoke, "select name, count(*) from scores group by 1 order by 1")["rows"] == [
        ["answers", 20],
        ["empty", 23],
    ]
    assert ask(invoke, "select data->>'decision' from events where event = 'GateDecided'")[
        "rows"
    ] == [
        ["ITERATE"],
        ["PROCEED"],
    ]


def test_only_committed_shards_are_seen(run, invoke):
    """A Parquet file outside the manifest is a leftover and no data."""
    shards = run.scale.shards
    pq.write_table(pq.read_table(shards / "00000.parquet"), shards / "00001.parquet")
    assert ask(invoke, "select count(*) from rows where unit = 'scale'")["rows"] == [[3]]


def test_a_run_without_rows_has_empty_views(run, invoke):
    """Before the first shard every view exists and holds nothing."""
    for manifest in run.path.rglob("manifest.jsonl"):
        manifest.unlink()
    run.events_path.unlink()
    for view in ("rows", "calls", "scores", "events"):
        assert ask(invoke, f"select count(*) from {view}")["rows"] == [[0]]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/*')",
        "copy (select 1) to 'out.csv'",
        "copy rows to 'artifacts/demo-1/scale/shards/00000.parquet'",
        "attach 'x.db'",
        "install httpfs",
        "set enable_external_access = true",
        "drop view rows",
        "create table mine as select 1",
        "select 1; select 2",
        "",
        "selec 1",
    ],
)
def test_nothing_else_can_be_reached_or_changed(sql, run, invoke):
    """One SELECT over the run's files; anything else is refused as usage, without a traceback."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    done = invoke("query", sql)
    assert done.code == 2 and "root:" not in done.out
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_the_table_shows_text_as_text(run, invoke):
    """What a model wrote can neither steer the terminal nor be read as markup."""
    done = invoke("query", "select response from rows limit 1")
    assert done.out == "response\nab‹U+001B›]0;pwned‹U+0007›cd [/] [bold]x\n"


def test_csv_is_exact(run, invoke):
    """In a pipe CSV holds what the rows hold, byte for byte."""
    done = invoke("query", "select id, response, scores.answers as s from rows limit 1", "--csv")
    assert done.code == 0, done.err
    assert done.out == "id,response,s\n0-0,ab\x1b]0;pwned\x07cd [/] [bold]x,\n"


def test_json_is_exact_and_harmless(run, invoke):
    """JSON keeps every character; those that steer are escaped."""
    done = invoke("query", "select 'a\u202e\x9b\x1bb' as t, 'nan'::double as n", "--json")
    assert json.loads(done.out)["rows"] == [["a\u202e\x9b\x1bb", None]]
    assert not {"\u202e", "\x9b", "\x1b"} & set(done.out)


def test_zoned_times_need_no_further_package(run, invoke):
    """A column with a time zone is given in UTC."""
    found = ask(invoke, "select '2026-01-02T03:04:05+00:00'::timestamptz as \"a b\"")
    assert found["rows"] == [["2026-01-02T03:04:05"]]


def test_all_runs_together(run, invoke):
    """`--run all` sees every run of the workspace."""
    assert ask(invoke, "select distinct run from rows", "--run", "all")["rows"] == [["demo-1"]]
