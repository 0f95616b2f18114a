"""The Parquet files of shards: committed whole or not at all, verified when read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_core.errors import ManifestError, Place, StoreError
from nexa_core.store.content import hash_content
from nexa_core.store.failpoints import failpoint
from nexa_core.store.files import disk_errors, sync_folder, write_all
from nexa_core.store.manifest import ShardEntry

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CommittedFiles", "commit_shard", "find_damaged", "read_shard", "sweep"]

_REDO = "`nexa resume` redoes it."


@dataclass(frozen=True, slots=True)
class CommittedFiles:
    """What `commit_shard` left in the folder: SHA-256 by file name, and the rows' content hash."""

    files: Mapping[str, str]
    content_hash: str
    rows: int


def commit_shard(
    folder: Path, index: int, rows: pa.Table, calls: pa.Table | None = None
) -> CommittedFiles:
    """Write `<index>.parquet` and `<index>.calls.parquet`, verified and durable.

    The shard counts only once its line is in the manifest; until then these files are redone.

    Raises:
        DiskFullError: there is no room; what was written of it is removed again.
        ManifestError: the table cannot be written, or what was read back differs from it.
    """
    tables = {f"{index:05d}.parquet": rows}
    if calls is not None:
        tables[f"{index:05d}.calls.parquet"] = calls
    with _all_or_nothing(folder, list(tables)):
        files = {name: _write_verified(folder, name, table) for name, table in tables.items()}
        failpoint("shard-before-rename")
        for name in tables:
            _temporary(folder, name).rename(folder / name)
            failpoint("shard-after-rename")
        sync_folder(folder)
    failpoint("shard-after-dirsync")
    return CommittedFiles(files, hash_content(rows), rows.num_rows)


def read_shard(path: Path, sha256: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """A committed Parquet file as a table.

    Args:
        sha256: What the manifest says; given, the whole file is checked against it, not given,
            the checksums of its pages are.

    Raises:
        ManifestError: the file is missing, truncated or altered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if sha256 is not None and _hash_file(path) != sha256:
            raise _damaged(path, "its SHA-256 is not the one in the manifest")
        if columns is None:  # `read_table` looks for a data set first, which takes as long again
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                return file.read(use_threads=False)
        return pq.read_table(
            path, columns=columns, page_checksum_verification=True, partitioning=None
        )
    except FileNotFoundError as cause:
        raise _damaged(path, "the file is missing") from cause
    except (OSError, pa.ArrowException) as cause:
        raise _damaged(path, str(cause).partition("\n")[0]) from cause


def find_damaged(folder: Path, entries: Iterable[ShardEntry]) -> list[ShardEntry]:
    """The committed shards with a file that is missing or not what the manifest says."""

    def is_whole(name: str, sha256: str) -> bool:
        path = folder / name
        return path.is_file() and _hash_file(path) == sha256

    return [e for e in entries if not all(is_whole(*file) for file in e.files.items())]


def sweep(folder: Path, entries: Iterable[ShardEntry]) -> list[str]:
    """Remove what no manifest line names: Parquet to be redone, temporary files, spent journals.

    Returns:
        The names removed.
    """
    entries = list(entries)
    kept = {name for entry in entries for name in entry.files}
    committed = {f"{entry.shard:05d}" for entry in entries}
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stray = path.suffix in {".tmp", ".ballast"}
        stray |= path.suffix == ".parquet" and path.name not in kept
        stray |= path.suffix == ".journal" and path.name.split(".")[0] in committed
        if stray and not path.is_dir():
            path.unlink()
            removed.append(path.name)
    return removed


def _temporary(folder: Path, name: str) -> Path:
    return folder / f".{name}.{os.getpid()}.tmp"


@contextmanager
def _all_or_nothing(folder: Path, names: list[str]) -> Iterator[None]:
    """Raise what goes wrong in the block as an error of the store, and free the disk it took."""
    import pyarrow as pa

    try:
        with disk_errors(folder / names[0], ManifestError):
            yield
    except (StoreError, pa.ArrowException) as cause:
        for name in names:
            _temporary(folder, name).unlink(missing_ok=True)
        if isinstance(cause, StoreError):
            raise
        problem = f"Shard '{names[0]}' cannot be written as Parquet: {cause}"
        raise ManifestError(problem, place=Place(str(folder / names[0]))) from cause


def _write_verified(folder: Path, name: str, table: pa.Table) -> str:
    """Write a temporary file and read it back; its SHA-256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _temporary(folder, name)
    _write_table(path, table)
    data = path.read_bytes()
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        written = file.read(use_threads=False)
    # Arrow compares quickly and takes no NaN for another; the hash compares what differs by that.
    if not written.equals(table) and hash_content(written) != hash_content(table):
        raise _damaged(path, "what was read back differs from what was written")
    return hashlib.sha256(data).hexdigest()


def _write_table(path: Path, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    failpoint("shard-write")
    sink = pa.BufferOutputStream()  # a file would be written to in hundreds of pieces
    # zstd finds what repeats; dictionaries of texts that do not are a sixth of the time, and no smaller.
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, sink.getvalue())
        os.fsync(fd)
    finally:
        os.close(fd)
    failpoint("shard-after-temporary")


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, why: str) -> ManifestError:
    return ManifestError(f"Shard '{path.name}' cannot be used: {why}.", _REDO, Place(str(path)))
