"""Who may write to a run, and who may be asked to stop."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nexa_core.errors import RunLockedError, StoreError
from nexa_core.store.lock import RunLock, find_owner, stop_owner

HOLD = """import sys, time
from pathlib import Path
from nexa_core.store.lock import RunLock
RunLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run."""
    arguments = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert (process.stdout or sys.stdin).readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_at_once(tmp_path: Path) -> None:
    """It is told who works on the run and how to stop that."""
    with holder(tmp_path) as process:
        started = time.monotonic()
        with pytest.raises(
            RunLockedError, match=rf"process {process.pid} .*nexa stop {tmp_path.name}"
        ):
            RunLock.acquire(tmp_path)
        assert time.monotonic() - started < 0.3


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After kill -9 the run is free at once; the old owner's name in the file means nothing."""
    with holder(tmp_path) as process:
        assert getattr(find_owner(tmp_path), "pid", None) == process.pid
        process.kill()
        process.wait()
        assert find_owner(tmp_path) is None
        RunLock.acquire(tmp_path).release()


def test_asking_who_holds_a_run_does_not_take_it(tmp_path: Path) -> None:
    """A reader that looks at the lock in the instant a run starts does not make it fail."""
    RunLock.acquire(tmp_path).release()
    reader = os.open(tmp_path / "run.lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [reader]).start()
    RunLock.acquire(tmp_path).release()


def test_a_stop_reaches_the_process_that_holds_the_run(tmp_path: Path) -> None:
    """`stop` is a SIGTERM to that process and says whom it asked."""
    with holder(tmp_path) as process:
        assert getattr(stop_owner(tmp_path), "pid", None) == process.pid
        assert process.wait(5) == -signal.SIGTERM


def test_nobody_is_stopped_where_nobody_works(tmp_path: Path) -> None:
    """A free run has nobody to stop, also when its lock file names a living process."""
    assert stop_owner(tmp_path) is None
    lock = {"pid": os.getpid(), "host": "x", "started": "", "birth": ""}
    (tmp_path / "run.lock").write_text(json.dumps(lock))
    assert stop_owner(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"birth": "other"}, "not the one that took it"), ({"host": "far"}, "far")],
)
def test_a_foreign_process_is_never_signalled(tmp_path: Path, change: dict, problem: str) -> None:
    """A reused process id, or one of another host, is an error and gets no signal."""
    with holder(tmp_path) as process:
        lock = json.loads((tmp_path / "run.lock").read_text())
        (tmp_path / "run.lock").write_text(json.dumps(lock | change))
        with pytest.raises(StoreError, match=problem):
            stop_owner(tmp_path)
        assert process.poll() is None
