"""The files of a dataset: Parquet splits of bounded size, JSON lines, all in place or none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from nexa_core.errors import StoreError
from nexa_core.store.files import disk_errors, sync_folder

__all__ = ["JsonLines", "SplitFiles", "hash_files", "replace_folder"]

ROW_GROUP = 10_000
FILE_BYTES = 512 << 20
"""Uncompressed size after which a split goes on in a new file."""


class SplitFiles:
    """Writes one split as `<stem>-00000-of-0000N.parquet`; a split without rows leaves no file."""

    def __init__(self, folder: Path, stem: str, file_bytes: int = FILE_BYTES) -> None:
        self._folder, self._stem, self._file_bytes = folder, stem, file_bytes
        self._pending: list[pa.Table] = []
        self._parts: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._written = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows; they are written once a row group is full."""
        if len(table) == 0:
            return
        self.rows += len(table)
        self._pending.append(table)
        if sum(map(len, self._pending)) >= ROW_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._end_file()
        if kind is None:
            self._name_files()

    def _name_files(self) -> None:
        """Give the files their names, which say how many there are."""
        for number, part in enumerate(self._parts):
            name = f"{self._stem}-{number:05d}-of-{len(self._parts):05d}.parquet"
            part.rename(self._folder / name)

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending).combine_chunks()
        self._pending = []
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._parts.append(self._folder / f"{self._stem}-{len(self._parts):05d}.part")
            self._writer = pq.ParquetWriter(self._parts[-1], table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self._written += table.nbytes
        if self._written >= self._file_bytes:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written = None, 0


class JsonLines:
    """Writes the training columns of a split as one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", errors="surrogatepass")

    def write(self, table: pa.Table) -> None:
        """Append rows, one line each."""
        for row in table.to_pylist():
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path within it, in order of the paths."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place when the block ends well, and goes if not.

    Everything is on disk before the rename: `target` is the whole new folder, the whole old one, or
    (killed between two renames) absent; it is never a part.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left)
    fresh = target.parent / f".{target.name}.new.tmp"
    fresh.mkdir()
    try:
        with disk_errors(target, StoreError):
            yield fresh
            _sync_tree(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    old = target.parent / f".{target.name}.old.tmp"
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
