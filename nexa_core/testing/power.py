"""Power loss without a machine that loses power: what a disk would still hold that keeps only what was synced.

The strictest disk that POSIX allows: bytes of a file are kept up to the size it had at its last fsync
or fdatasync, a name in a folder only once that folder was synced, and a name that went stays until
then. (LazyFS, Ramos and others 2024, forgets bytes alone.)
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ForgetfulDisk", "forgetting"]

Inode = tuple[int, int]


@dataclass
class ForgetfulDisk:
    """What has been synced below a folder since `forgetting` began; Linux alone."""

    root: Path
    sizes: dict[Inode, int] = field(default_factory=dict)
    names: dict[Inode, dict[str, Inode]] = field(default_factory=dict)
    _readers: dict[Inode, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lose_power(self, target: Path) -> None:
        """Write to `target` what a restart would find below the folder."""
        with self._lock:
            target.mkdir(parents=True)
            self._restore(_inode(self.root.stat()), target)

    def note(self, fd: int, sync: Callable[[int], None]) -> None:
        """Sync a file or folder, and remember how far it is safe now."""
        found = os.fstat(fd)
        names = _list_names(fd) if stat.S_ISDIR(found.st_mode) else None
        sync(fd)
        with self._lock:
            inode = _inode(found)
            if inode not in self._readers:  # held open, so that nobody else gets its number
                self._readers[inode] = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
            if names is not None:
                self.names[inode] = names
            else:
                self.sizes[inode] = found.st_size

    def close(self) -> None:
        for reader in self._readers.values():
            os.close(reader)

    def _restore(self, folder: Inode, target: Path) -> None:
        for name, inode in self.names.get(folder, {}).items():
            if inode in self.names:
                (target / name).mkdir()
                self._restore(inode, target / name)
            elif inode in self.sizes:
                (target / name).write_bytes(os.pread(self._readers[inode], self.sizes[inode], 0))


@contextmanager
def forgetting(root: Path) -> Iterator[ForgetfulDisk]:
    """Watch every fsync and fdatasync of this process for a block."""
    disk = ForgetfulDisk(root)
    fsync, fdatasync = os.fsync, os.fdatasync
    os.fsync = lambda fd: disk.note(_number(fd), fsync)
    os.fdatasync = lambda fd: disk.note(_number(fd), fdatasync)
    try:
        yield disk
    finally:
        os.fsync, os.fdatasync = fsync, fdatasync
        disk.close()


def _number(fd: object) -> int:
    return fd if isinstance(fd, int) else fd.fileno()  # type: ignore[attr-defined]


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _list_names(fd: int) -> dict[str, Inode]:
    with os.scandir(fd) as entries:
        return {each.name: _inode(each.stat(follow_symlinks=False)) for each in entries}
