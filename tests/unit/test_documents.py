"""YAML as plain values that know their lines."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.documents import MAX_BYTES, parse_yaml, read_yaml
from nexa_core.errors import GateFileError, Place, UsageError

Write = Callable[[str, str], Path]

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_json_reads_as_itself(value: object) -> None:
    """Every JSON text is a YAML text with the same value."""
    assert parse_yaml(json.dumps(value), "x.yaml").data == value


def test_a_value_knows_its_line() -> None:
    """A key path gives the line of its value; an absent one that of its nearest parent."""
    document = parse_yaml("a: 1\nb:\n  c: [1,\n    2]\n", "x.yaml")
    assert document.place(["b", "c", 1]) == Place("x.yaml", 4)
    assert document.place(["b", "absent", "deeper"]) == Place("x.yaml", 2)
    assert document.place() == Place("x.yaml", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("", None),
        ("2026-11-01", "2026-11-01"),
        ("010", 10),
        ("0o17", 15),
        ("1e-4", 0.0001),
        ("1_000", 1000),
        ('"7"', "7"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """Only true and false are booleans, dates stay text, a leading zero is no octal."""
    assert parse_yaml(text, "x.yaml").data == value


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\na: 2", 2, "'a' twice, first on line 1"),
        ("a: 1\nb: !!python/object/apply:os.system [x]", 2, "python/object"),
        ("a: !mine x", 1, "tag '!mine'"),
        ("base: &b {x: 1}\nc:\n  <<: *b", 3, "merge key"),
        ("a: 1\nb: .nan", 2, "no finite number"),
        ("a: [1, 2\nb: 3", 2, "no YAML"),
        ("a: 1\n---\nb: 2", 2, "no YAML"),
        ("? [1]\n: 2", 1, "as a key"),
        ("[" * 100 + "]" * 100, 1, "nests too deeply"),
    ],
)
def test_what_is_refused_names_its_line(text: str, line: int, says: str) -> None:
    """Ambiguous, unsafe and broken YAML is an error of the caller's kind, with the line."""
    with pytest.raises(GateFileError) as error:
        parse_yaml(text, "x.yaml", GateFileError)
    assert error.value.place == Place("x.yaml", line)
    assert says in error.value.problem


def test_an_alias_bomb_is_refused_at_once() -> None:
    """Nine levels of ten aliases stop at the cap, in bounded time."""
    pairs = itertools.pairwise("abcdefghi")
    levels = [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairs]
    started = time.process_time()
    with pytest.raises(UsageError, match="aliases are expanded"):
        parse_yaml("\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *levels]), "x.yaml")
    assert time.process_time() - started < 10


def test_an_alias_that_holds_itself_is_refused() -> None:
    """A structure without end is an error, not a crash."""
    with pytest.raises(UsageError, match="nests too deeply"):
        parse_yaml("a: &a [*a]", "x.yaml")


def test_a_large_file_is_refused_unread(write: Write) -> None:
    """Over a megabyte is data, and data has its own files."""
    with pytest.raises(UsageError, match="1,000,000"):
        read_yaml(write("big.yaml", "a" * (MAX_BYTES + 1)))


def test_a_file_that_is_not_text_names_the_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are reported where they stand."""
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(UsageError) as error:
        read_yaml(path)
    assert error.value.place == Place(str(path), 2)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    """Neither is a traceback."""
    with pytest.raises(UsageError, match="no file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="is a folder"):
        read_yaml(tmp_path)


def test_brackets_without_end_are_no_crash() -> None:
    """A file of nothing but brackets is an error in bounded time."""
    started = time.process_time()
    with pytest.raises(UsageError, match="nests too deeply"):
        parse_yaml("[" * 500_000, "x.yaml")
    assert time.process_time() - started < 10
