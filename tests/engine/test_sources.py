"""Sources: every format, broken rows, identities, samples."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nexa_core.engine.sources import (
    fingerprint,
    invent_rows,
    open_source,
    read_source,
    rows_table,
    sample_rows,
    table_of,
)
from nexa_core.errors import SourceError

ROWS = [{"key": f"k{n}", "text": f"row {n} – ünïcode", "n": n} for n in range(50)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(path: Path, form: str) -> str:
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path / "rows.parquet")
        return "rows.parquet"
    content = {
        "jsonl": LINES,
        "jsonl.gz": gzip.compress(LINES),
        "jsonl.zst": zstandard.compress(LINES),
    }[form]
    (path / f"rows.{form}").write_bytes(content)
    return f"rows.{form}"


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, form: str) -> None:
    """What a source is packed in does not matter."""
    source = open_source(write(tmp_path, form), tmp_path)
    assert [dict(r.columns) for r in read_source(source, None, {})] == ROWS


def test_an_fsspec_url_is_read(tmp_path: Path) -> None:
    """Any file system that fsspec knows will do."""
    name = write(tmp_path, "jsonl.gz")
    source = open_source(f"file://{tmp_path}/{name}", tmp_path)
    assert sum(1 for _ in source.rows()) == 50


def test_identity_does_not_depend_on_position(tmp_path: Path) -> None:
    """Rows keep their identity when the file is sorted another way."""
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl").write_bytes(b"".join(reversed(LINES.splitlines(keepends=True))))
    for id_column in (None, "key"):
        first, second = (
            {r.source_id: r.columns for r in read_source(open_source(n, tmp_path), id_column, {})}
            for n in ("a.jsonl", "b.jsonl")
        )
        assert first == second


def test_a_broken_line_fails_alone(tmp_path: Path) -> None:
    """The row of a line that is no JSON says so, with its number; the others are read."""
    lines = LINES.splitlines(keepends=True)
    lines[6] = b'{"key": \n'
    lines[8] = b"[1, 2]\n"
    lines[9] = b'{"key": "\xff"}\n'
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    rows = list(read_source(open_source("rows.jsonl", tmp_path), None, {}))
    errors = {position: row.error for position, row in enumerate(rows) if row.error}
    assert set(errors) == {6, 8, 9} and "line 7 is no JSON" in errors[6]


def test_a_row_without_its_id_fails_alone(tmp_path: Path) -> None:
    """Null or absent: the row says so, and its neighbours go on as one table with one column of ids."""
    rows = [{"id": "a", "text": "x"}, {"id": None, "text": "y"}, {"text": "z"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = list(read_source(open_source("rows.jsonl", tmp_path), "id", {}))
    assert [row.error is None for row in found] == [True, False, False]
    table = rows_table(found)
    assert table.column_names.count("id") == 1 and table["text"].to_pylist() == ["x", "y", "z"]


def test_a_column_of_nexa_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """A source column called like one of nexa's own must be renamed, and may be."""
    (tmp_path / "rows.jsonl").write_text('{"state": "open", "text": "x"}\n')
    source = open_source("rows.jsonl", tmp_path)
    with pytest.raises(SourceError, match=r"my_state: state"):
        list(read_source(source, None, {}))
    (row,) = read_source(source, None, {"my_state": "state"})
    assert dict(row.columns) == {"my_state": "open", "text": "x"}


@pytest.mark.parametrize(
    ("path", "why"),
    [("none.jsonl", "does not exist"), ("rows.csv", "of a kind that cannot be read")],
)
def test_a_source_that_cannot_be_read_says_why(tmp_path: Path, path: str, why: str) -> None:
    """A missing file and a wrong kind are told apart, with what would work."""
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(SourceError, match=why) as error:
        open_source(path, tmp_path)
    assert ".jsonl" in error.value.fix


def test_a_missing_id_column_lists_what_there_is(tmp_path: Path) -> None:
    """A wrong column name is answered with the right ones."""
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    with pytest.raises(SourceError, match="It has: key, text, n"):
        list(read_source(open_source("rows.jsonl", tmp_path), "idd", {}))


def test_a_sample_is_the_same_for_the_same_seed_only(tmp_path: Path) -> None:
    """A sample depends on seed and rows, not on their order, and has no row twice."""
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    rows = list(read_source(open_source("rows.jsonl", tmp_path), None, {}))
    first = [r.source_id for r in sample_rows(rows, 0, 10)]
    assert first == [r.source_id for r in sample_rows(reversed(rows), 0, 10)]
    assert first != [r.source_id for r in sample_rows(rows, 1, 10)]
    assert len(set(first)) == 10


def test_a_longer_sample_begins_with_the_shorter(tmp_path: Path) -> None:
    """Extending a pilot takes further rows and keeps those it had."""
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    rows = list(read_source(open_source("rows.jsonl", tmp_path), None, {}))
    assert sample_rows(rows, 0, 30)[:10] == sample_rows(rows, 0, 10)


def test_invented_rows_differ_by_seed_unit_and_index() -> None:
    """A pipeline without a source has rows of its own, the same on every machine."""
    ids = {
        row.source_id
        for seed in (0, 1)
        for unit in ("iterations/01", "scale")
        for row in invent_rows(seed, unit, 0, 20)
    }
    assert len(ids) == 80


def test_columns_that_disagree_on_a_type_become_text(tmp_path: Path) -> None:
    """Rows with a number here and a word there lose neither."""
    (tmp_path / "rows.jsonl").write_text('{"v": 1}\n{"v": "one"}\n{"v": null}\n')
    rows = list(read_source(open_source("rows.jsonl", tmp_path), None, {}))
    assert rows_table(rows)["v"].to_pylist() == ["1", "one", None]


def test_a_changed_byte_changes_the_fingerprint(tmp_path: Path) -> None:
    """The fingerprint is what tells a changed source on resume."""
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    before = fingerprint(open_source("rows.jsonl", tmp_path))
    (tmp_path / "rows.jsonl").write_bytes(LINES.replace(b"row 7 ", b"row 8 "))
    assert fingerprint(open_source("rows.jsonl", tmp_path)) != before


def test_frames_tables_and_dicts_are_rows() -> None:
    """The Python API takes rows in whatever they are held."""
    table = pa.Table.from_pylist(ROWS)
    held: list[Any] = [ROWS, table, iter(ROWS)]
    assert all(table_of(data).to_pylist() == ROWS for data in held)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, 10**30, -(2**70)])
def test_integers_of_any_length_are_read_as_written(tmp_path: Path, number: int) -> None:
    """The quick reader would round those over 64 bits; nested ones too."""
    (tmp_path / "rows.jsonl").write_text(f'{{"n": {number}, "deep": [{{"n": {number}}}]}}\n')
    (row,) = read_source(open_source("rows.jsonl", tmp_path), None, {})
    assert row.columns == {"n": number, "deep": [{"n": number}]}
    assert rows_table([row]).num_rows == 1
