"""Faults for tests: failpoints, full disks, flipped bits and cut files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from nexa_core.store.failpoints import arm

__all__ = ["armed", "cut_file", "flip_bit", "limited_file_size", "start_program"]


@contextmanager
def armed(points: str) -> Iterator[None]:
    """Arm failpoints of this process for a block, as in `armed("journal-sync=eio:2")`.

    The text is that of `NEXA_CORE_FAILPOINT`: name[=kill|enospc|eio][:nth[+]], comma separated.
    """
    arm(points)
    try:
        yield
    finally:
        arm("")


def start_program(
    script: Path, *arguments: str, points: str = "", imports: Sequence[str] = ()
) -> BaseProcess:
    """Start a Python script in a process of its own, with failpoints armed, to be killed.

    `exitcode` is -9 where something killed it. What all such processes import is loaded once, so
    that hundreds of them start in little time; `imports` adds to it at the first call.
    """
    context = multiprocessing.get_context("forkserver")
    preload = ["pyarrow.parquet", "nexa_core.store.shards", *imports, __name__]
    context.set_forkserver_preload(preload)
    process = context.Process(target=_run_script, args=(script, arguments, points), daemon=True)
    process.start()
    return process


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: what a full quota looks like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit of a file; bits count from the lowest one of the first byte."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut_file(path: Path, size: int) -> None:
    """Cut a file down to its first `size` bytes, or by `-size` where that is negative."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def _run_script(script: Path, arguments: Sequence[str], points: str) -> None:
    sys.argv = [str(script), *arguments]
    arm(points)
    runpy.run_path(str(script), run_name="__main__")
