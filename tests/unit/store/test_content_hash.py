"""The content hash: equal for equal values, different for any other."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.store.content import hash_content

TEXT = st.sampled_from([None, "", "a", "ab", "b", "é😀"])
STEP = st.fixed_dictionaries({"step": TEXT, "call_ids": st.none() | st.lists(TEXT, max_size=3)})
ROW = st.fixed_dictionaries(
    {
        "response": TEXT,
        "tokens": st.none() | st.integers(-5, 5),
        "whole": st.none() | st.booleans(),
        "scores": st.none()
        | st.fixed_dictionaries({"clear": st.none() | st.floats(allow_nan=False)}),
        "flags": st.none() | st.lists(TEXT, max_size=3),
        "provenance": st.fixed_dictionaries(
            {"run": TEXT, "shard": st.integers(0, 3), "steps": st.lists(STEP, max_size=1)}
        ),
    }
)
STEP_TYPE = pa.struct({"step": pa.string(), "call_ids": pa.list_(pa.string())})
SCHEMA = pa.schema(
    {
        "response": pa.string(),
        "tokens": pa.int32(),
        "whole": pa.bool_(),
        "scores": pa.struct({"clear": pa.float64()}),
        "flags": pa.list_(pa.string()),
        "provenance": pa.struct(
            {"run": pa.string(), "shard": pa.int64(), "steps": pa.list_(STEP_TYPE)}
        ),
    }
)


def build(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def blank(rows: list[dict]) -> list[dict]:
    return [row | {"provenance": row["provenance"] | {"run": None}} for row in rows]


@given(st.lists(ROW, max_size=5), st.data())
def test_chunks_slices_and_encodings_do_not_matter(rows, data):
    """However Arrow holds the values, their hash is one."""
    table, cut = build(rows), data.draw(st.integers(0, len(rows)))
    before = build([*rows[:1], *rows]).slice(min(1, len(rows)))
    encoded = table.set_column(0, "response", table["response"].dictionary_encode())
    shuffled = table.select(sorted(table.column_names, reverse=True))
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert len({hash_content(t) for t in (table, before, encoded, shuffled, chunked)}) == 1


def test_the_run_id_is_left_out():
    """The same rows of two runs have one hash; another shard number gives another."""

    def table(run: str, shard: int) -> pa.Table:
        return pa.table({"provenance": [{"run": run, "shard": shard}]})

    assert hash_content(table("a", 0)) == hash_content(table("b", 0))
    assert hash_content(table("a", 0)) != hash_content(table("a", 1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["x", "yz"]}, {"a": ["xy", "z"]}),
        ({"a": [None]}, {"a": [""]}),
        ({"a": [[1], [2, 3]]}, {"a": [[1, 2], [3]]}),
        ({"a": [None, [1]]}, {"a": [[], [1]]}),
        ({"a.b": [1]}, {"a": [{"b": 1}]}),
        ({"a": [1.0]}, {"a": [1]}),
        ({"a": ["1"]}, {"a": [b"1"]}),
        ({"a": [1]}, {"b": [1]}),
        ({"a": pa.array([], pa.string())}, {"b": pa.array([], pa.string())}),
    ],
)
def test_near_tables_differ(one, other):
    """Values that flow into each other, nulls and empties, and like names are told apart."""
    assert hash_content(pa.table(one)) != hash_content(pa.table(other))


def test_the_bytes_under_a_null_do_not_matter():
    """A null is a null, whatever stands in the buffer beneath it."""
    ones, twos = (pa.array([n, n], pa.int64()).buffers()[1] for n in (1, 2))
    valid = pa.py_buffer(b"\x00")
    tables = [
        pa.table({"a": pa.Array.from_buffers(pa.int64(), 2, [valid, data])})
        for data in (ones, twos)
    ]
    assert hash_content(tables[0]) == hash_content(tables[1])


def test_rare_types_are_hashed_too():
    """Times, decimals, maps, fixed lists and null columns have values like all others."""
    import datetime as dt
    import decimal

    def table(day: int) -> pa.Table:
        return pa.table(
            {
                "at": [dt.datetime(2026, 1, day, tzinfo=dt.UTC)],
                "day": [dt.date(2026, 1, day)],
                "price": [decimal.Decimal(day)],
                "map": pa.array([[("k", day)]], pa.map_(pa.string(), pa.int64())),
                "fixed": pa.array([[day, day]], pa.list_(pa.int64(), 2)),
                "nothing": pa.nulls(1),
            }
        )

    assert hash_content(table(1)) == hash_content(table(1))
    for name in ("at", "day", "price", "map", "fixed"):
        assert hash_content(table(1).select([name])) != hash_content(table(2).select([name]))
