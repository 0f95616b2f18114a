"""Who works on a run: a lock that dies with its process, and how to ask that one to stop."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from nexa_core.errors import Place, RunLockedError, StoreError
from nexa_core.store.files import disk_errors

__all__ = ["LOCK", "Owner", "RunLock", "find_owner", "stop_owner"]

LOCK = "run.lock"
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a run: `birth` tells it from a later process with the same id."""

    pid: int
    host: str
    started: str
    birth: str

    @classmethod
    def current(cls) -> Owner:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), now, _find_birth(os.getpid()) or "")


class RunLock:
    """The right to write to a run, held by one process; the kernel takes it back when that dies.

    Example:
        with RunLock.acquire(run.path):
            ...
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def acquire(cls, run_folder: Path) -> RunLock:
        """Take the lock, or refuse at once.

        Raises:
            RunLockedError: another process holds it; the error names it.
        """
        path = run_folder / LOCK
        with disk_errors(path, StoreError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # Whoever asks for the owner shares the lock for an instant; an owner shares it with nobody.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try_lock(fd, fcntl.LOCK_EX):
            if not _try_lock(fd, fcntl.LOCK_SH) or time.monotonic() > deadline:
                os.close(fd)
                raise _locked(run_folder)
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(asdict(Owner.current())).encode(), 0)
        return cls(fd)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def find_owner(run_folder: Path) -> Owner | None:
    """The process that holds a run now; None when nobody does."""
    try:
        fd = os.open(run_folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(fd, fcntl.LOCK_SH):
            return None
        return _read_owner(fd)
    finally:
        os.close(fd)


def stop_owner(run_folder: Path) -> Owner | None:
    """Ask the process that holds a run to stop, by SIGTERM; None when nobody holds it.

    Raises:
        StoreError: it runs on another host, or the recorded id belongs to another process by now.
    """
    owner, name = find_owner(run_folder), run_folder.name
    if owner is None:
        return None
    if owner.host != socket.gethostname():
        raise StoreError(
            f"Run '{name}' is held by process {owner.pid} on host '{owner.host}', not on this one.",
            f"Run `nexa stop {name}` there.",
        )
    if not owner.birth or _find_birth(owner.pid) != owner.birth:
        raise StoreError(
            f"Run '{name}' is held, but process {owner.pid} is not the one that took it.",
            "A child of that process may still be at work: end it by hand.",
            Place(str(run_folder / LOCK)),
        )
    os.kill(owner.pid, signal.SIGTERM)
    return owner


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(fd: int) -> Owner:
    """The owner that the lock file names; one that just took the lock may need an instant."""
    for _ in range(20):
        try:
            return Owner(**json.loads(os.pread(fd, 4096, 0)))
        except (ValueError, TypeError):
            time.sleep(0.01)
    return Owner(0, "unknown", "unknown", "")


def _locked(run_folder: Path) -> RunLockedError:
    owner, name = find_owner(run_folder), run_folder.name
    who = (
        f"process {owner.pid} on '{owner.host}' since {owner.started}"
        if owner
        else "another process"
    )
    fix = f"Wait for it, or `nexa stop {name}`."
    return RunLockedError(f"Run '{name}' is being worked on by {who}.", fix)


def _find_birth(pid: int) -> str | None:
    """When a process began, as its system says it; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return _ask_ps(pid) if not Path("/proc/self/stat").exists() else None
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    return f"{boot}:{fields[19]}"


def _ask_ps(pid: int) -> str | None:
    import subprocess

    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - an int
    return found.stdout.strip() or None
