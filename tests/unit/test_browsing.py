"""Rows by position: counted and filtered from manifests, read a shard at a time, a million as easily as ten."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.actions.browsing import Filter, open_rows
from nexa_core.errors import ManifestError
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import Run, create_run

PIPELINE = {"steps": [{"generate": {"id": "answer", "into": "response"}}]}


def make_run(root: Path) -> Run:
    return create_run(root, "r", "r", {"pipeline": PIPELINE})


def commit(run: Run, unit: str, shard: int, rows: int, bad: int, *, stored: bool = True) -> None:
    """A shard whose last `bad` rows were rejected, the first of them as 'long', the others as 'empty'."""
    folder = run.scale if unit == "scale" else run.iteration(int(unit[-2:]))
    folder.create()
    states = ["accepted"] * (rows - bad) + ["rejected"] * bad
    reasons = [None] * (rows - bad) + ["long: 90 tokens", *["empty"] * (bad - 1)][:bad]
    if stored:
        table = pa.table(
            {
                "q": [f"question {n}" for n in range(rows)],
                "response": [f"answer {shard}.{n} " + "x" * 1000 for n in range(rows)],
                "id": [f"{unit}-{shard}-{n}" for n in range(rows)],
                "state": states,
                "reason": pa.array(reasons, pa.string()),
            }
        )
        pq.write_table(table, folder.shards / f"{shard:05d}.parquet")
    counts = {"accepted": rows - bad, "rejected": bad} if bad else {"accepted": rows}
    heads = {"long": 1, "empty": bad - 1} if bad > 1 else {"long": 1} if bad else {}
    entry = ShardEntry(folder.unit(shard), shard, counts, {}, "", reasons=heads, source_rows=rows)
    append_entry(folder.path, entry)


def test_a_million_rows_are_paged_without_reading_them(tmp_path):
    """Only the first and the last shard exist on disk: nothing between is looked at on the way."""
    run = make_run(tmp_path)
    for shard in range(1000):
        commit(run, "scale", shard, 1000, 10, stored=shard in (0, 999))
    rows = open_rows(run.path)
    every = rows.select()
    assert len(every) == 1_000_000 and rows.count_states() == {
        "accepted": 990_000,
        "rejected": 10_000,
    }
    assert every.page(0, 2)[1].texts[1].startswith("answer 0.1 ")
    assert every.page(999_999, 50)[0].id == "scale-999-999"
    assert every.whole(999_000)["response"].startswith("answer 999.0 ")
    assert len(rows.select(Filter(reason="empty"))) == 9_000


def test_filters_find_what_the_manifests_count(tmp_path):
    """By unit, state and reason; a page reaches over shards, and texts in lists are short."""
    run = make_run(tmp_path)
    for unit, shard in (("iterations/01", 0), ("scale", 0), ("scale", 1)):
        commit(run, unit, shard, 10, 3)
    rows = open_rows(run.path)
    rejected = rows.select(Filter(state="rejected"))
    assert [line.id for line in rejected.page(2, 2)] == ["iterations/01-0-9", "scale-0-7"]
    long = rows.select(Filter("scale", reason="long"))
    assert [line.reason for line in long.page(0, 9)] == ["long: 90 tokens"] * 2
    assert len(rejected.page(0, 1)[0].texts[1]) <= 240
    assert rejected.whole(3)["unit"] == "scale/00000" and rejected.whole(3)["id"] == "scale-0-7"
    assert rows.count_reasons("scale") == {"empty": 4, "long": 2}


def test_rows_are_found_by_their_ids(tmp_path):
    """In the order asked; ids that are not there are left out."""
    run = make_run(tmp_path)
    commit(run, "iterations/01", 0, 10, 0)
    found = open_rows(run.path).find(["iterations/01-0-7", "nowhere", "iterations/01-0-2"])
    assert [row["id"] for row in found] == ["iterations/01-0-7", "iterations/01-0-2"]


def test_a_damaged_shard_says_so_and_its_siblings_are_shown(tmp_path):
    """Its rows keep their places; the row itself is an error with a way out."""
    run = make_run(tmp_path)
    commit(run, "scale", 0, 5, 0)
    commit(run, "scale", 1, 5, 0)
    (run.scale.shards / "00000.parquet").write_bytes(b"PAR1 no more")
    page = open_rows(run.path).select().page(0, 10)
    assert ["cannot be used" in line.problem for line in page] == [True] * 5 + [False] * 5
    with pytest.raises(ManifestError):
        open_rows(run.path).select().whole(0)


def test_new_shards_are_seen(tmp_path):
    """`refresh` says whether there are any."""
    run = make_run(tmp_path)
    commit(run, "scale", 0, 5, 0)
    rows = open_rows(run.path)
    assert not rows.refresh()
    commit(run, "scale", 1, 5, 0)
    assert rows.refresh() and len(rows.select()) == 10
