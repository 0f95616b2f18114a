"""What every check and metric keeps to, whatever columns it meets: types, nulls, chunks, slices."""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa_checks import register_checks, register_metrics
from nexa_checks.scans import count_characters
from nexa_checks.words import count_words
from nexa_core import CheckError, UsageError

CHECKS = {spec.name: spec for spec in register_checks()}
METRICS = {spec.name: spec for spec in register_metrics() if spec.name != "served_by_mix"}
"""All but the one that reads provenance instead of columns: it has a test file of its own."""
FACTS = {
    "field": "response",
    "raw_field": "response_raw_text",
    "tokens_field": "response_tokens",
    "finish_field": "response_finish_reason",
    "delimiters": ["\nQ:", "##"],
}
OWN: dict[str, dict[str, Any]] = {
    "length": {"min_chars": 2, "max_tokens": 3},
    "mean_score": {"score": "clear"},
    "language": {"languages": ["en"], "min_chars": 1},
    "answer_equals": {"column": "response", "take": "text"},
    "command": {"command": ["true"], "run_untrusted": True, "workers": 1, "network": True},
    "decontamination": {"evaluation_items": ["a b", "How many cats does a cat have, then?"]},
    "pii": {"kinds": ["email"]},
}
ROW_CHECKS = [name for name, spec in CHECKS.items() if spec.over == "row"]
QUICKER = [
    pytest.param(name, marks=pytest.mark.slow if name == "command" else ()) for name in ROW_CHECKS
]
"""The same; the one that starts a program for every row goes with the slow tests."""

SOME_TEXT = st.text("aé \n#Q:\u00a0.", max_size=12) | st.sampled_from(
    ["I cannot help", "a\nQ: b", "a b a b a b a b a b"]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "response": st.none() | SOME_TEXT,
            "response_raw_text": st.none() | SOME_TEXT,
            "response_tokens": st.none() | st.integers(0, 9),
            "response_finish_reason": st.sampled_from([None, "stop", "length"]),
            "sample": st.integers(0, 1),
            "state": st.sampled_from(["accepted", "rejected", "failed", "surplus"]),
            "reason": st.sampled_from([None, "unscored", "runaway: x"]),
            "flags": st.lists(st.sampled_from(["safety", "safety_harm", "length"]), max_size=2),
            "scores": st.fixed_dictionaries(
                {
                    "clear": st.none() | st.floats(-1, 1),
                    "exact_duplicates": st.none() | st.just(1.0),
                }
            ),
        }
    ),
    max_size=12,
)
SCHEMA = pa.schema(
    {
        "response": pa.string(),
        "response_raw_text": pa.string(),
        "response_tokens": pa.int32(),
        "response_finish_reason": pa.string(),
        "sample": pa.int32(),
        "state": pa.string(),
        "reason": pa.string(),
        "flags": pa.list_(pa.string()),
        "scores": pa.struct({"clear": pa.float64(), "exact_duplicates": pa.float64()}),
    }
)


def make(specs: dict[str, Any], name: str, **more: Any) -> Any:
    spec = specs[name]
    if spec.options is None:
        return spec.build(None)
    model = spec.options()
    known = {key: value for key, value in FACTS.items() if key in model.model_fields}
    return spec.build(model.model_validate({**known, **OWN.get(name, {}), **more}))


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def as_lists(found: Any) -> list[list[Any]]:
    return [found.values.to_pylist(), found.failed.to_pylist(), found.reasons.to_pylist()]


def cut(rows: list[Any], cuts: list[int]) -> list[list[Any]]:
    edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    return [rows[low:high] for low, high in pairwise(edges)]


CUTS = st.lists(st.integers(0, 12), max_size=3)


@pytest.mark.parametrize("name", QUICKER)
@settings(max_examples=12, deadline=None)
@given(rows=ROWS, cuts=CUTS)
def test_a_row_check_judges_each_row_by_itself(name: str, rows: list[Any], cuts: list[int]) -> None:
    """The scores of a table are those of its slices, one after the other."""
    check = make(CHECKS, name)
    parts = [as_lists(check.score(table_of(part))) for part in cut(rows, cuts)]
    assert as_lists(check.score(table_of(rows))) == [
        list(chain.from_iterable(lists)) for lists in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=12, deadline=None)
@given(rows=ROWS, cuts=CUTS)
def test_a_metric_takes_chunks_and_slices_alike(
    name: str, rows: list[Any], cuts: list[int]
) -> None:
    """Outcomes do not depend on how the table is laid out in memory."""
    metric, whole = make(METRICS, name), table_of(rows)
    chunked = pa.concat_tables([table_of(part) for part in cut(rows, cuts)])
    offset = pa.concat_tables([whole, whole]).combine_chunks().slice(len(rows))
    expected = metric.outcomes(whole).to_pylist()
    assert len(expected) == len(rows)
    assert metric.outcomes(chunked).to_pylist() == metric.outcomes(offset).to_pylist() == expected


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, cuts=CUTS, more=st.lists(st.integers(0, 12), max_size=6))
def test_duplicates_do_not_depend_on_where_shards_end(
    rows: list[Any], cuts: list[int], more: list[int]
) -> None:
    """Any split of the same rows into shards fails the same rows, as a plain set of texts does."""
    check = make(CHECKS, "exact_duplicates")
    seen: set[str] = set()
    expected = [
        None if r["response"] is None else r["response"] in seen or bool(seen.add(r["response"]))
        for r in rows
    ]
    for edges in (cuts, more):
        state, found = check.start(), []
        for part in cut(rows, edges):
            state, columns = check.fold(state, table_of(part))
            found += columns.failed.to_pylist()
        assert found == expected


def encode(kind: str) -> Any:
    if kind == "dictionary":
        return lambda column: column.dictionary_encode()
    if kind == "chunked":
        return lambda column: pa.chunked_array([column[:1], column[1:1], column[1:]])
    if kind == "null column":
        return lambda column: pa.nulls(len(column))
    types = {"large": pa.large_string(), "view": pa.string_view()}
    return lambda column: column.cast(
        pa.dictionary(pa.int8(), pa.large_string()) if kind == "large dictionary" else types[kind]
    )


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "kind", ["dictionary", "large", "large dictionary", "view", "chunked", "null column"]
)
def test_checks_take_text_in_every_arrow_type(name: str, kind: str) -> None:
    """Parquet files bring dictionaries, large strings and views; the verdict is the same."""
    texts = pa.array([None, "", "a\nQ: é b a\nQ: é b", "I cannot help"])
    plain = pa.array([None] * 4, pa.string()) if kind == "null column" else texts
    found = [
        as_lists(_judge(make(CHECKS, name), pa.table({"response": column})))
        for column in (plain, encode(kind)(texts))
    ]
    assert found[0] == found[1]


def _judge(check: Any, table: pa.Table) -> Any:
    if "response" in table.column_names:
        table = table.append_column("source_id", pa.array(["s"] * len(table), pa.string()))
    return check.fold(check.start(), table)[1] if hasattr(check, "fold") else check.score(table)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("chunks", [0, 1])
def test_checks_of_no_rows_give_no_rows(name: str, chunks: int) -> None:
    """An empty table, of any number of chunks, gives empty columns of the promised types."""
    column = pa.chunked_array([pa.array([], pa.string())] * chunks, pa.string())
    found = _judge(make(CHECKS, name), pa.table({"response": column}))
    assert (found.values.type, found.failed.type, found.reasons.type) == (
        pa.float64(),
        pa.bool_(),
        pa.string(),
    )
    assert len(found.values) == len(found.failed) == len(found.reasons) == 0


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_no_rows_give_no_rows(name: str) -> None:
    """A metric of an empty shard has an empty tally."""
    assert len(make(METRICS, name).outcomes(SCHEMA.empty_table())) == 0


@pytest.mark.parametrize("name", [n for n in CHECKS if n != "truncated"])
def test_a_missing_column_is_named_with_those_there_are(name: str) -> None:
    """The error says what was read, what the table has, and what was probably meant."""
    expected = re.escape(
        f"The check '{name}' reads the column 'response', which the table does not"
    )
    with pytest.raises(CheckError, match=expected) as error:
        _judge(make(CHECKS, name), pa.table({"respons": ["a"], "id": ["1"]}))
    assert "Columns: respons, id." in str(error.value)
    assert error.value.fix == "Did you mean 'respons'?"


def test_a_column_of_numbers_is_no_text() -> None:
    """The type is named instead of a kernel's complaint."""
    with pytest.raises(CheckError, match="'response', which holds int64"):
        make(CHECKS, "empty").score(pa.table({"response": [1]}))


def test_a_column_the_user_named_must_be_there() -> None:
    """A model's own column may be missing; a misspelt one is an error, never a silent fallback."""
    table = pa.table({"response": ["a"]})
    assert make(CHECKS, "length").score(table).failed.to_pylist() == [True]
    with pytest.raises(CheckError, match="'n_toks'"):
        make(CHECKS, "length", tokens_field="n_toks").score(table)
    with pytest.raises(CheckError, match="'original'"):
        make(CHECKS, "runaway", raw_field="original").score(table)


@pytest.mark.parametrize("name", [n for n in CHECKS if n != "truncated"])
def test_a_check_without_a_field_says_what_to_write(name: str) -> None:
    """Where neither file nor pipeline tells the column, building fails and shows the line."""
    with pytest.raises(UsageError, match=re.escape(f"Write `{{{name}: {{field: …}}}}`.")):
        make(CHECKS, name, field=None)


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("ab \t\n\x1f\x85\u00a0\u2003\u3000é漢"), max_size=20))
def test_words_are_counted_as_python_counts_them(text: str) -> None:
    """A word is what `str.split` finds, in every alphabet."""
    assert count_words(pa.chunked_array([[text, text + " x", None]])).to_pylist() == [
        len(text.split()),
        len(text.split()) + 1,
        None,
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("aé漢🙂\n", max_size=8) | st.none(), max_size=6), st.integers(0, 6))
def test_characters_are_counted_as_python_counts_them(texts: list[str | None], cut: int) -> None:
    """The length of a text is `len`, in every alphabet, of slices and chunks, null of what is null."""
    for kind in (pa.string(), pa.large_string()):
        column = pa.chunked_array([pa.array(texts, kind)[cut:], pa.array(["é", "e"], kind)], kind)
        wanted = [None if text is None else len(text) for text in texts[cut:]]
        assert count_characters(column).to_pylist() == [*wanted, 1, 1]


def test_every_white_space_parts_words() -> None:
    """Each of Unicode's white-space characters, ASCII or not, ends a word."""
    spaces = [chr(point) for point in range(0x3001) if chr(point).isspace()]
    texts = pa.chunked_array([[f"a{space}b" for space in spaces]])
    assert np.all(count_words(texts).to_numpy() == 2)
