"""Lets a run go on in a process of its own, which outlives whoever asked for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_core.errors import RunLockedError, UsageError
from nexa_core.store.lock import find_owner
from nexa_core.store.runs import open_run
from nexa_core.store.status import read_status
from nexa_core.workspace import Workspace

if TYPE_CHECKING:
    from subprocess import Popen

__all__ = ["Continuation", "can_continue", "continue_run"]

LOG = "resume.log"
"""What the process says, in the run's folder; derived."""
_OVER = ("done", "running", "starting")
_TAIL = 2_000


@dataclass
class Continuation:
    """A `nexa resume` in the background."""

    process: Popen[bytes]
    log: Path

    def wait(self) -> str:
        """Wait for its end; what it said where it did not come to take up the run, else nothing."""
        code = self.process.wait()
        if code in (0, 1, 6, 10) or code < 0:
            return ""
        return self.log.read_bytes()[-_TAIL:].decode(errors="replace").strip()


def can_continue(status: str) -> bool:
    """Whether there is anything to take up in a run of that status."""
    return status not in _OVER


def continue_run(run: str, *, workspace: Workspace) -> Continuation:
    """Start `nexa resume RUN` apart from this process; it goes on when this one ends.

    Raises:
        RunLockedError: A process works on the run already.
        UsageError: The run is done.
    """
    found = open_run(workspace.artifacts_path, run)
    if owner := find_owner(found.path):
        raise RunLockedError(f"Run '{found.id}' is under way: process {owner.pid} works on it.")
    status = read_status(found.path)["status"]
    if not can_continue(status):
        raise UsageError(f"Run '{found.id}' is {status}: there is nothing to go on with.")
    from subprocess import DEVNULL, Popen

    command = [sys.executable, "-m", "nexa_core", "resume", found.id]
    log = found.path / LOG
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        process = Popen(  # noqa: S603 - our own program, with the id of a run
            [*command, "--workspace", str(workspace.root)],
            stdin=DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
        )
    finally:
        os.close(fd)
    return Continuation(process, log)
