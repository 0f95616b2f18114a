"""What every measured program prints: one JSON line with its wall and CPU seconds and its answers."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any


def read_rows(path: str) -> list[str]:
    """The prompts of a file of rows."""
    return [json.loads(line)["prompt"] for line in Path(path).read_text().splitlines()]


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Stopwatch:
    """Started when made; `show` prints what passed."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def show(self, answers: int, **more: Any) -> None:
        """Print the line."""
        seconds, cpu = time.perf_counter() - self.wall, cpu_seconds() - self.cpu
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = {"answers": answers, "seconds": seconds, "cpu_seconds": cpu, "rss_mb": rss, **more}
        print(json.dumps(line), flush=True)
