"""Two owners of one run: the second refuses at once, also while the first is stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from torture.collecting import Job, Shape, serving
from torture.finding import Finding
from torture.kills import compare, undisturbed
from torture.oracle import Autopsy, weigh

SHAPE = Shape(rows=3_000, shard_rows=500)
STORE_ERROR = 5


def refuse_seconds(folder: Path, attempts: int) -> Finding:
    """While a run is collected, try to start it again, half of the times with its owner stopped."""
    whole = undisturbed(folder, SHAPE)
    problems: list[str] = []
    taken: list[float] = []
    with serving(folder / "two", latency=0.5) as server:
        job = Job.make(folder / "two" / "work", server.url, SHAPE)
        first = job.start()
        while server.stats.requests < 5:
            time.sleep(0.05)
        for number in range(attempts):
            assert first.pid is not None and first.exitcode is None, "the run ended too early"
            if number % 2:
                os.kill(first.pid, signal.SIGSTOP)
            started = time.monotonic()
            second = job.start(output="second.txt")
            second.join(20)
            taken.append(time.monotonic() - started)
            if number % 2:
                os.kill(first.pid, signal.SIGCONT)
            said = (job.folder / "second.txt").read_text()
            if second.exitcode != STORE_ERROR or "RunLockedError" not in said:
                problems.append(f"the second owner ended with {second.exitcode}: {said[-200:]}")
                second.kill()
        first.join(300)
        autopsy = Autopsy()
        autopsy.examine(job.run_path)
        found = weigh(job.run_path, server.log, SHAPE.rows)
        problems += compare(found, whole, autopsy, first.exitcode, job)
    if max(taken) > 1.0:
        problems.append(f"it took {max(taken):.2f} s to refuse")
    measured = f"{attempts} second owners refused, within {max(taken):.2f} s at most: " + (
        "; ".join(problems) or "the first goes on to shards equal to an undisturbed run's"
    )
    asked = "two owners of one run: the second refuses within 1 s, the first is not disturbed"
    return Finding("two owners", asked, measured, not problems, {"seconds": taken})
