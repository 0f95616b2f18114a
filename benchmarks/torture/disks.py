"""Disks that fill up and disks that fail: a typed error, nothing broken, and the run goes on afterwards."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.collecting import ROUGH, Job, Shape, serving
from torture.finding import Finding
from torture.kills import compare, undisturbed
from torture.oracle import Autopsy, weigh

SHAPE = Shape(rows=3_000, shard_rows=500)
ROOM_MB, WIDE_MB = 64, 400
STORE_ERROR = 5


class Disk:
    """A tmpfs that shrinks to 64 MB and grows again: nexa begins no run on so small a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def mount(cls, folder: Path) -> Iterator[Disk]:
        folder.mkdir(parents=True)
        _call("mount", "-t", "tmpfs", "-o", f"size={WIDE_MB}m", "tmpfs", folder)
        try:
            yield cls(folder)
        finally:
            _call("umount", "-l", folder)

    def widen(self) -> None:
        self._resize(WIDE_MB << 10)

    def shrink(self, left: float) -> None:
        """Become a disk of 64 MB on which so many megabytes are left, whatever is being written."""
        room = ROOM_MB << 10
        filler = self.folder / "filler"
        filler.write_bytes(bytes(max(0, room - self._used() - int((left + 2) * 1024)) << 10))
        for _ in range(50):
            try:
                self._resize(self._used() + int(left * 1024))
            except subprocess.CalledProcessError:
                continue  # it grew in between
            return

    def _used(self) -> int:
        return shutil.disk_usage(self.folder).used >> 10

    def _resize(self, kilobytes: int) -> None:
        _call("mount", "-o", f"remount,size={kilobytes}k", self.folder)


def _call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def fill_disk(folder: Path, times: int) -> Finding:
    """Let a run meet a full disk at `times` different moments, make room, and let it go on."""
    whole, chance = undisturbed(folder, SHAPE), random.Random(3)
    problems: list[str] = []
    codes: list[int | None] = []
    number = fits = 0
    while codes.count(STORE_ERROR) + len(problems) < times:
        place, number = folder / f"full{number}", number + 1
        with serving(place, seed=number) as server, Disk.mount(place / "disk") as disk:
            job, autopsy = Job.make(disk.folder / "work", server.url, SHAPE), Autopsy()
            left, after = chance.uniform(0, 0.4), chance.randint(1, SHAPE.rows // 2)
            process = job.start()
            while server.stats.requests < after and process.exitcode is None:
                time.sleep(0.01)
            disk.shrink(left)
            process.join(300)
            codes.append(process.exitcode)
            said = job.output
            fits += process.exitcode == 0  # it was nearly through, and what was left was enough
            if process.exitcode and not (process.exitcode == STORE_ERROR and "DiskFull" in said):
                problems.append(f"{left:.1f} MB left: exit {codes[-1]}: {said[-200:]}")
            autopsy.examine(job.run_path)
            disk.widen()
            code = job.finish()
            autopsy.examine(job.run_path)
            found = weigh(job.run_path, server.log, SHAPE.rows)
            problems += compare(found, whole, autopsy, code, job)
    measured = (
        f"{codes.count(STORE_ERROR)} × exit 5 with DiskFullError ({fits} runs still fitted): "
        + (
            "; ".join(problems)
            or "0 lost, 0 twice, each goes on to shards equal to an undisturbed run's"
        )
    )
    asked = f"64 MB tmpfs full × {times}: named error, nothing corrupt, resume completes"
    return Finding("full disk", asked, measured, not problems)


def fail_syncs(folder: Path, times: int) -> Finding:
    """Let the disk refuse a sync, or a write of a shard or manifest, at `times` different moments."""
    whole, chance = undisturbed(folder, SHAPE), random.Random(4)
    problems: list[str] = []
    codes: list[int | None] = []
    for number in range(times):
        place, autopsy = folder / f"sync{number}", Autopsy()
        with serving(place, seed=number, latency=0.02, faults=ROUGH) as server:
            job = Job.make(place / "work", server.url, SHAPE)
            point = "journal-sync" if number % 5 else "shard-write"
            passes = chance.randint(1, 40) if number % 5 else chance.randint(1, 4)
            codes.append(job.finish(f"{point}=eio:{passes}"))
            if codes[-1] != STORE_ERROR:
                problems.append(f"{point}:{passes}: exit {codes[-1]}: {job.output[-200:]}")
            autopsy.examine(job.run_path)
            code = job.finish()
            autopsy.examine(job.run_path)
            found = weigh(job.run_path, server.log, SHAPE.rows)
            problems += compare(found, whole, autopsy, code, job)
    measured = f"{codes.count(STORE_ERROR)} × exit 5: " + (
        "; ".join(problems)
        or "0 lost, 0 twice, each goes on to shards equal to an undisturbed run's"
    )
    asked = f"errors of fsync × {times}: named error, nothing lost, resume completes"
    return Finding("failing fsync", asked, measured, not problems)
