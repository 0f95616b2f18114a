"""The wall clock jumps by a day while a run is under way: nothing that matters depends on it."""

from __future__ import annotations

import datetime as dt
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nexa_core.testing.chaos import Faults
from torture.collecting import Job, Shape, serving
from torture.finding import Finding
from torture.kills import compare, undisturbed
from torture.oracle import Autopsy, weigh

SHAPE = Shape(rows=3_000, shard_rows=500)
DAY = 86_400.0
LIMITED = Faults(rate_limit=0.001, rate_limit_date=0.001, error_503=0.01, cut=0.01)


def jump_clock(seconds: float) -> None:
    """Let this process's wall clock jump by up to a day either way, every `seconds`."""
    offset = [0.0]
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + offset[0]
    time.time_ns = lambda: real_ns() + int(offset[0] * 1e9)

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return dt.datetime.now(tz) + dt.timedelta(seconds=offset[0])

    for name, module in list(sys.modules.items()):
        known = getattr(module, "datetime", None)
        if name.startswith("nexa") and isinstance(known, type):
            module.datetime = Jumping  # type: ignore[attr-defined]

    def jump() -> None:
        chance = random.Random(5)
        while True:
            time.sleep(seconds)
            offset[0] = chance.choice((-DAY, 0.0, DAY)) + chance.uniform(-60, 60)

    threading.Thread(target=jump, daemon=True).start()


def jump_while_collecting(folder: Path, rounds: int) -> Finding:
    """A run with jumps against one without, both with rate limits that give seconds and dates."""
    whole = undisturbed(folder, SHAPE)
    problems: list[str] = []
    times: dict[float, list[float]] = {0.0: [], 0.1: []}
    for number in range(rounds):
        for jumps, taken in times.items():
            place = folder / f"round{number}-{jumps}"
            with serving(place, seed=number, latency=0.05, faults=LIMITED) as server:
                job = Job.make(place / "work", server.url, SHAPE)
                started = time.monotonic()
                process = job.start(jumps=jumps)
                process.join(300)
                taken.append(time.monotonic() - started)
                autopsy = Autopsy()
                autopsy.examine(job.run_path)
                found = weigh(job.run_path, server.log, SHAPE.rows)
                problems += compare(found, whole, autopsy, process.exitcode, job)
    calm, jumpy = (sorted(taken)[len(taken) // 2] for taken in times.values())
    if jumpy > 1.5 * calm + 2:
        problems.append(f"{jumpy:.1f} s instead of {calm:.1f}")
    measured = f"{jumpy:.1f} s with a jump every 0.1 s, {calm:.1f} s without: " + (
        "; ".join(problems) or "shards equal, nothing lost, nothing asked twice"
    )
    asked = "the wall clock jumps by ± 1 day while a run is under way: no effect"
    return Finding("clock jumps", asked, measured, not problems)
