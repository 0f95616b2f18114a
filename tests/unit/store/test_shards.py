"""Committed shards: whole, verified, and redone when they are not."""

from pathlib import Path

import pyarrow as pa
import pytest

from nexa_core.errors import DiskFullError, ManifestError
from nexa_core.store.journal import Journal
from nexa_core.store.manifest import ShardEntry
from nexa_core.store.shards import commit_shard, find_damaged, read_shard, sweep
from nexa_core.testing.faults import armed, cut_file, flip_bit, limited_file_size

ROWS = pa.table({"id": [f"r{n}" for n in range(300)], "text": ["copper " * 60] * 300})
CALLS = pa.table({"call_id": ["c1"], "reply": ['{"text": "copper"}']})


def commit(folder: Path, shard: int = 0) -> ShardEntry:
    done = commit_shard(folder, shard, ROWS, CALLS)
    return ShardEntry(f"scale/{shard:05d}", shard, {}, done.files, done.content_hash)


def test_a_shard_is_written_and_read_back(tmp_path: Path) -> None:
    """What is read is what was committed; nothing temporary stays; only the owner may read it."""
    entry = commit(tmp_path, 7)
    assert {p.name for p in tmp_path.iterdir()} == {"00007.parquet", "00007.calls.parquet"}
    path = tmp_path / "00007.parquet"
    assert read_shard(path, entry.files[path.name]).equals(ROWS)
    assert read_shard(path, columns=["id"]).column_names == ["id"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_shard_without_calls_is_one_file(tmp_path: Path) -> None:
    """An audit asks nobody: there is no calls file then."""
    assert list(commit_shard(tmp_path, 0, ROWS).files) == ["00000.parquet"]


@pytest.mark.parametrize("size", [0, 3, 100, -1, -300])
def test_a_truncated_shard_is_named(tmp_path: Path, size: int) -> None:
    """A cut Parquet file is an error that names the shard and the way out."""
    commit(tmp_path)
    cut_file(tmp_path / "00000.parquet", size)
    with pytest.raises(ManifestError, match=r"Shard '00000\.parquet' .*`nexa resume` redoes it"):
        read_shard(tmp_path / "00000.parquet")


def test_an_altered_shard_is_named(tmp_path: Path) -> None:
    """One flipped bit is found: of a page without the manifest, of any byte with it."""
    entry = commit(tmp_path)
    path = tmp_path / "00000.parquet"
    flip_bit(path, 8 * 200)
    for sha256 in (None, entry.files[path.name]):
        with pytest.raises(ManifestError, match=r"00000\.parquet"):
            read_shard(path, sha256)


def test_the_manifest_knows_every_byte(tmp_path: Path) -> None:
    """A change that Parquet itself cannot see is found with the manifest's hash."""
    entry = commit(tmp_path)
    path = tmp_path / "00000.parquet"
    path.write_bytes(path.read_bytes().replace(b"parquet-cpp", b"parquet-cqq"))
    assert read_shard(path).equals(ROWS)
    with pytest.raises(ManifestError, match="SHA-256"):
        read_shard(path, entry.files[path.name])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """A file that somebody deleted is an error of the store, not a traceback."""
    with pytest.raises(ManifestError, match="missing"):
        read_shard(tmp_path / "00000.parquet")


def test_damaged_shards_are_found(tmp_path: Path) -> None:
    """Resume learns which committed shards it must redo, missing and altered ones alike."""
    entries = [commit(tmp_path, shard) for shard in range(4)]
    flip_bit(tmp_path / "00001.calls.parquet", 100)
    (tmp_path / "00002.parquet").unlink()
    assert [entry.shard for entry in find_damaged(tmp_path, entries)] == [1, 2]


def test_what_no_manifest_names_is_swept(tmp_path: Path) -> None:
    """Uncommitted Parquet, temporary files and the journals of committed shards go, no others."""
    kept = commit(tmp_path, 0)
    commit(tmp_path, 1)
    (tmp_path / ".00002.parquet.77.tmp").write_bytes(b"half")
    for unit in ("00000", "00001"):
        Journal.open(tmp_path, unit).close()
    gone = {".00002.parquet.77.tmp", "00001.parquet", "00001.calls.parquet", "00000.1.journal"}
    assert set(sweep(tmp_path, [kept])) == gone
    assert {p.name for p in tmp_path.iterdir()} == {*kept.files, "00001.1.journal"}


def test_a_full_disk_leaves_no_part_of_a_shard(tmp_path: Path) -> None:
    """Where there is no room, what was written is taken away again."""
    with armed("shard-after-temporary=enospc:2"), pytest.raises(DiskFullError):
        commit(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]
    commit(tmp_path)


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """What the system says in the middle of a Parquet file arrives as what it is."""
    with limited_file_size(500), pytest.raises(DiskFullError, match="File too large"):
        commit(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_parquet_is_an_error_of_the_store(tmp_path: Path) -> None:
    """A struct without fields has no place in Parquet: the error says which shard had one."""
    empty = pa.table({"scores": pa.array([{}], pa.struct([]))})
    with pytest.raises(ManifestError, match=r"'00003\.parquet' cannot be written"):
        commit_shard(tmp_path, 3, empty)
    assert not list(tmp_path.iterdir())
