"""The manifest: a shard is committed when its line is there, and only then."""

from pathlib import Path

import pytest

from nexa_core.errors import DiskFullError, ManifestError
from nexa_core.store.manifest import (
    ShardEntry,
    append_entry,
    merge_tallies,
    read_manifest,
    retract_entry,
    total_entries,
)
from nexa_core.testing.faults import cut_file, limited_file_size


def entry(shard: int, **fields: object) -> ShardEntry:
    return ShardEntry(
        f"scale/{shard:05d}", shard, {"accepted": 2}, {"a": "f" * 64}, "0" * 64, **fields
    )


def test_lines_come_back_in_shard_order(tmp_path: Path) -> None:
    """Entries are what was appended, ordered by shard and not by arrival."""
    entries = [
        entry(1),
        entry(0, cost_nano={"judge": 5}, metrics={"runaway_rate": {"n": 2, "k": 1}}),
    ]
    for one in entries:
        append_entry(tmp_path, one)
    assert read_manifest(tmp_path) == entries[::-1]


def test_no_manifest_is_no_shards(tmp_path: Path) -> None:
    """A folder where nothing is committed yet is no error."""
    assert read_manifest(tmp_path) == []


def test_the_first_line_of_a_shard_wins(tmp_path: Path) -> None:
    """A second line for one shard changes nothing."""
    append_entry(tmp_path, entry(0, seconds=1.0))
    append_entry(tmp_path, entry(0, seconds=2.0))
    assert [e.seconds for e in read_manifest(tmp_path)] == [1.0]


def test_a_retracted_shard_can_be_committed_again(tmp_path: Path) -> None:
    """A shard whose files went bad is open again until its next line."""
    append_entry(tmp_path, entry(0, seconds=1.0))
    retract_entry(tmp_path, entry(0), "00000.parquet is truncated")
    assert read_manifest(tmp_path) == []
    append_entry(tmp_path, entry(0, seconds=2.0))
    assert [e.seconds for e in read_manifest(tmp_path)] == [2.0]


def test_a_torn_last_line_is_no_commit(tmp_path: Path) -> None:
    """Cut anywhere, the last line does not count, and the next one starts where it began."""
    path = tmp_path / "manifest.jsonl"
    append_entry(tmp_path, entry(0))
    whole = path.stat().st_size
    append_entry(tmp_path, entry(1))
    for size in range(path.stat().st_size - 1, whole - 1, -1):
        cut_file(path, size)
        assert [e.shard for e in read_manifest(tmp_path)] == [0]
        if size % 20 == 0:
            append_entry(tmp_path, entry(2))
            assert [e.shard for e in read_manifest(tmp_path)] == [0, 2]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    """A line that is whole and no entry stops the run with its number: money hangs on it."""
    append_entry(tmp_path, entry(0))
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"shard": 1}\n')
    with pytest.raises(ManifestError, match="Line 2") as caught:
        read_manifest(tmp_path)
    assert str(caught.value.place).endswith("manifest.jsonl:2")


def test_a_full_disk_commits_nothing(tmp_path: Path) -> None:
    """A line that did not fit is no commit, and does not spoil the next."""
    append_entry(tmp_path, entry(0))
    limit = (tmp_path / "manifest.jsonl").stat().st_size + 10
    with limited_file_size(limit), pytest.raises(DiskFullError):
        append_entry(tmp_path, entry(1))
    append_entry(tmp_path, entry(2))
    assert [e.shard for e in read_manifest(tmp_path)] == [0, 2]


def test_totals_add_up() -> None:
    """Rows, reasons, calls, money and tallies are summed over shards, by name."""
    rate, median = {"n": 4, "k": 1}, {"n": 2, "histogram": {"7": 1, "9": 1}}
    one = entry(0, cost_nano={"teacher": 10}, source_rows=3, metrics={"r": rate, "m": median})
    two = entry(1, cost_nano={"teacher": 5, "judge": 1}, source_rows=3, metrics={"r": rate})
    totals = total_entries([one, two])
    assert (totals.shards, totals.rows, totals.source_rows) == (2, {"accepted": 4}, 6)
    assert totals.cost_nano == {"teacher": 15, "judge": 1}
    assert totals.metrics == {"r": {"n": 8, "k": 2}, "m": median}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ({"n": 2, "k": 0}, {"n": 3, "k": 1}, {"n": 5, "k": 1}),
        ({"n": 1, "total": 0.5}, {"n": 1, "total": 0.25}, {"n": 2, "total": 0.75}),
        (
            {"n": 2, "histogram": {"7": 2}},
            {"n": 2, "histogram": {"7": 1, "30": 1}},
            {"n": 4, "histogram": {"7": 3, "30": 1}},
        ),
    ],
)
def test_tallies_merge(one: dict, other: dict, both: dict) -> None:
    """Each kind of tally merges to that of both samples, and neither part is changed."""
    before = str(one)
    assert merge_tallies(one, other) == both
    assert str(one) == before
