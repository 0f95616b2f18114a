"""Writing that survives a kill: lines appended, files replaced whole, all forced to disk."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nexa_core.errors import DiskFullError, Place, StoreError

__all__ = [
    "append_line",
    "cut_torn_line",
    "describe_disk_error",
    "disk_errors",
    "encode_line",
    "make_folder",
    "read_lines",
    "replace_file",
    "sync_data",
    "sync_folder",
    "write_all",
]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TAIL = 1 << 16


def describe_disk_error(cause: OSError, path: Path, error: type[StoreError]) -> StoreError:
    """`cause` as a typed error: DiskFullError where space or quota ran out, else `error`."""
    why = os.strerror(cause.errno) if cause.errno else str(cause)
    if cause.errno in _FULL:
        fix = "Free some space, then `nexa resume` goes on where it stopped."
        return DiskFullError(f"'{path.name}' could not be written: {why}.", fix, Place(str(path)))
    return error(f"'{path.name}' could not be written: {why}.", "", Place(str(path)))


@contextmanager
def disk_errors(path: Path, error: type[StoreError]) -> Iterator[None]:
    """Raise every OSError of the block as the typed error of `describe_disk_error`."""
    try:
        yield
    except OSError as cause:
        raise describe_disk_error(cause, path, error) from cause


def write_all(fd: int, data: bytes) -> None:
    """Hand every byte to the kernel; a short write goes on where it ended."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def sync_data(fd: int) -> None:
    """Force a file's bytes, and what is needed to read them, to disk."""
    getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync


def sync_folder(path: Path) -> None:
    """Force a folder's entries to disk, so that a new name in it outlives power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path, levels: int = 1) -> None:
    """Make a folder where there is none, and let its name outlive power loss.

    Without that all that is synced inside would be gone with it. `levels` counts the folders, this
    one included, that may be new.
    """
    path.mkdir(parents=True, exist_ok=True)
    for parent in list(path.parents)[:levels]:
        sync_folder(parent)


def replace_file(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace a file whole: readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def encode_line(value: Mapping[str, Any]) -> bytes:
    """One JSON object as a line; lone surrogates of model text are kept as they came."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_simplify)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON line durably, after cutting what a dead process left half-written."""
    created = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        cut_torn_line(fd)
        write_all(fd, encode_line(value))
        os.fsync(fd)
    finally:
        os.close(fd)
    if created:
        sync_folder(path.parent)


def cut_torn_line(fd: int) -> int:
    """Truncate an open file after its last line feed; the number of bytes cut."""
    size = end = os.fstat(fd).st_size
    if not size or os.pread(fd, 1, size - 1) == b"\n":
        return 0
    while end:
        start = max(0, end - _TAIL)
        feed = os.pread(fd, end - start, start).rfind(b"\n")
        if feed >= 0:
            end = start + feed + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return size - end


def read_lines(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The complete lines from a byte offset on, line feeds included, without a torn last one."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _simplify(value: object) -> object:
    """NumPy and Arrow scalars as the value they hold, all else (paths) as text."""
    item = getattr(value, "item", None) or getattr(value, "as_py", None)
    return item() if callable(item) else str(value)
