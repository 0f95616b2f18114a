"""The files of a journal: numbered segments with one writer each, and their ballast."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from nexa_core.store.failpoints import failpoint
from nexa_core.store.files import sync_data, sync_folder, write_all

__all__ = [
    "Segment",
    "drop_ballast",
    "list_segments",
    "list_units",
    "remove_journal",
    "reserve_ballast",
]

_SEGMENT = re.compile(r"([1-9][0-9]*)\.journal")
BALLAST_BYTES = 4 << 20
"""Disk kept aside while a journal is open, so that replies in flight still land when it is full."""


class Segment:
    """One file `<unit>.<n>.journal`, created by this process and appended to by nobody else."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._size = self._durable_size = 0

    @classmethod
    def create(cls, folder: Path, unit: str, data: bytes = b"") -> Segment:
        """The next free segment, holding `data` durably; on OSError no file is left behind."""
        number = max(list_segments(folder, unit), default=0) + 1
        path = folder / f"{unit}.{number}.journal"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            segment = cls(path, os.open(path, flags, 0o600))
        except FileExistsError:  # another one took the number in this instant
            return cls.create(folder, unit, data)
        try:
            if data:
                segment.write(data)
                segment.sync()
            sync_folder(folder)
        except OSError:
            segment.close()
            path.unlink()
            raise
        return segment

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel: after this they outlive the process, not yet the machine."""
        failpoint("journal-write")
        write_all(self._fd, data)
        self._size += len(data)

    def sync(self) -> None:
        """Make what is written durable; must not be called again once it has failed."""
        size = self._size
        failpoint("journal-sync")
        sync_data(self._fd)
        self._durable_size = size

    def cut(self) -> None:
        """Drop what never became durable and now lies in a later segment; best effort."""
        with suppress(OSError):
            os.ftruncate(self._fd, self._durable_size)

    def close(self) -> None:
        os.close(self._fd)


def list_segments(folder: Path, unit: str) -> dict[int, Path]:
    """A unit's segments by number, oldest first."""
    # A folder holds every shard of its unit, and each shard asks: no object and no pattern a name.
    start = f"{unit}."
    try:
        names = [name for name in os.listdir(folder) if name.startswith(start)]  # noqa: PTH208 - names, no paths
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = ((_SEGMENT.fullmatch(name.removeprefix(start)), name) for name in names)
    return dict(sorted((int(match[1]), folder / name) for match, name in found if match))


def list_units(folder: Path) -> list[str]:
    """The units that have a journal in a folder, in order."""
    if not folder.is_dir():
        return []
    found = (re.fullmatch(r"(.+)\.[1-9][0-9]*\.journal", path.name) for path in folder.iterdir())
    return sorted({match[1] for match in found if match})


def remove_journal(folder: Path, unit: str) -> None:
    """Delete every segment of a unit that is committed."""
    for path in list_segments(folder, unit).values():
        path.unlink(missing_ok=True)
    drop_ballast(folder, unit)


def reserve_ballast(folder: Path, unit: str) -> None:
    """Occupy disk that `drop_ballast` frees; OSError when there is not enough."""
    fd = os.open(_ballast_path(folder, unit), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, BALLAST_BYTES)
        else:
            write_all(fd, bytes(BALLAST_BYTES))
    except OSError:
        drop_ballast(folder, unit)
        raise
    finally:
        os.close(fd)


def drop_ballast(folder: Path, unit: str) -> None:
    _ballast_path(folder, unit).unlink(missing_ok=True)


def _ballast_path(folder: Path, unit: str) -> Path:
    return folder / f"{unit}.ballast"
