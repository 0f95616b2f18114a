"""Comparing outcomes: real figures, every file format, and what cannot be compared."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nexa_core.engine.comparison import compare_files, compare_outcomes
from nexa_core.errors import UsageError

SHARED = Path(
    os.environ.get("NEXA_CORE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
)
GSM8K = SHARED / "gsm8k" / "model_solutions.jsonl"


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"{GSM8K} is absent: set NEXA_CORE_SHARED_DATA")
@pytest.mark.parametrize(
    ("a", "b", "counts", "p_exact", "p_midp"),
    [
        ("6b_finetuning", "6b_verification", (25, 145), None, 5.47e-22),
        ("6b_verification", "175b_finetuning", (106, 65), 0.00213, 0.00169),
    ],
)
def test_the_published_outcomes_on_gsm8k(
    a: str, b: str, counts: tuple[int, int], p_exact: float | None, p_midp: float
) -> None:
    """Published outcomes of real models give the counts and p-values worked out elsewhere."""
    found = compare_files(GSM8K, a_field=f"{a}.is_correct", b_field=f"{b}.is_correct").as_json()
    assert (found["b"], found["c"], found["n"]) == (*counts, 660)
    assert found["p_midp"] == pytest.approx(p_midp, rel=5e-3)
    assert p_exact is None or found["p_exact"] == pytest.approx(p_exact, rel=5e-3)


def write_lines(path: Path, rows: list[dict]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        text = gzip.compress(text)
    if path.suffix == ".zst":
        text = zstandard.compress(text)
    path.write_bytes(text)
    return path


@pytest.mark.parametrize("name", ["b.jsonl", "b.jsonl.gz", "b.jsonl.zst", "b.parquet"])
def test_files_of_any_format_are_compared(tmp_path: Path, name: str) -> None:
    """b counts what only A got right, c what only B did; ids that one file lacks are counted."""
    a = write_lines(tmp_path / "a.jsonl", [{"id": n, "correct": n < 3} for n in range(6)])
    rows = [{"id": str(n), "correct": n in (0, 5)} for n in range(1, 8)]
    b = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), b)
    else:
        write_lines(b, rows)
    found = compare_files(a, b).as_json()
    assert [found[key] for key in ("n", "a", "b", "c", "d", "only_a", "only_b")] == [
        5,
        0,
        2,
        1,
        2,
        1,
        2,
    ]
    assert found["delta"] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "correct": True}, {"id": 1, "correct": True}], "second time.*b.jsonl:2"),
        ([{"id": 1, "correct": "yes"}], "no outcome.*b.jsonl:1"),
        ([{"id": 1, "correct": 0.5}], "no outcome"),
        ([{"id": 1, "corect": True}], "Did you mean 'corect'"),
        ([{"id": 99, "correct": True}], "in common"),
        ([], "holds no row"),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    tmp_path: Path, rows: list[dict], message: str
) -> None:
    """Duplicate ids, values that are no outcome, missing fields say where and why."""
    a = write_lines(tmp_path / "a.jsonl", [{"id": 1, "correct": True}])
    with pytest.raises(UsageError) as caught:
        compare_files(a, write_lines(tmp_path / "b.jsonl", rows))
    assert caught.match(message)


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    """One file needs two fields, and a broken line is named."""
    path = write_lines(tmp_path / "a.jsonl", [{"id": 1, "correct": True}])
    with pytest.raises(UsageError, match="with itself"):
        compare_files(path)
    path.write_text('{"id": 1, "correct": true}\n{"id": 2,\n')
    with pytest.raises(UsageError, match=r"a\.jsonl:2"):
        compare_files(path, path, a_field="correct", b_field="wrong")


def test_the_item_hash_is_that_of_the_shared_items() -> None:
    """Two comparisons over the same items have one hash, whatever the outcomes."""
    one = compare_outcomes(
        "base", {"x": True, "y": False}, "tuned", {"x": True, "y": True, "z": True}
    )
    two = compare_outcomes("base", {"y": False, "x": False}, "other", {"y": True, "x": True})
    assert one.item_hash == two.item_hash
    assert one.only_b == 1
