"""nexa: a whole run by its Python API, from the source file to committed shards and the report.

The loop's lag and the journal's commits are watched from outside: a timer that should fire every
5 ms, and the time from a frame's write to its being on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from report import Stopwatch

import nexa_core as nexa

PIPELINE = """
nexa: 1
name: bench
source: {{path: {rows}, id: id}}
models:
  teacher: {{model: {provider}/bench, base_url: "{url}", concurrency: {concurrency},
            sampling: {{temperature: 0.7, max_tokens: 512}}}}
steps:
  - generate: {{id: answer, model: teacher, prompt: {{user: "{{{{ prompt }}}}"}}, into: response}}
scale: {{rows: all}}
"""
BEAT_SECONDS = 0.005


class Watch:
    """Samples of loop lag and of commits of the journal."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.commits: list[float] = []
        self._over = threading.Event()

    def watch_loops(self) -> None:
        """Every event loop that runs from now on beats."""
        run = asyncio.Runner.run

        def run_watched(runner: asyncio.Runner, work: Any, **settings: Any) -> Any:
            loop = runner.get_loop()
            loop.call_soon(self._beat, loop, time.perf_counter())
            return run(runner, work, **settings)

        asyncio.Runner.run = run_watched

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.lags.append(max(0.0, time.perf_counter() - due))
        loop.call_later(BEAT_SECONDS, self._beat, loop, time.perf_counter() + BEAT_SECONDS)

    def watch_journals(self) -> None:
        """Ask each journal every 20 ms to say when it is on disk."""
        from nexa_core.store.journal import Journal

        open_one = Journal.open.__func__
        watched = self

        def open_watched(kind: Any, *args: Any, **settings: Any) -> Any:
            journal = open_one(kind, *args, **settings)
            threading.Thread(target=watched._time_commits, args=(journal,), daemon=True).start()
            return journal

        Journal.open = classmethod(open_watched)

    def _time_commits(self, journal: Any) -> None:
        while not self._over.wait(0.02):
            began = time.perf_counter()
            try:
                journal.sync()
            except Exception:
                return
            if journal._closing:
                return
            took = time.perf_counter() - began
            if took > 1e-4:  # there was something to write
                self.commits.append(took)

    def end(self) -> dict[str, Any]:
        """The 99th percentiles in milliseconds."""
        self._over.set()
        return {
            "lag_p99_ms": percentile(self.lags, 0.99) * 1000,
            "commit_p99_ms": percentile(self.commits, 0.99) * 1000,
            "commits": len(self.commits),
        }


def percentile(values: list[float], share: float) -> float:
    """The value that a share of all values does not exceed."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("rows")
    parser.add_argument("concurrency", type=int)
    parser.add_argument("--provider", default="openai-compatible")
    parser.add_argument("--watch", action="store_true")
    options = parser.parse_args()
    # No program's imports are counted.
    for name in ("nexa_core.actions.running", "nexa_core.engine.campaign", "nexa_openai.model"):
        importlib.import_module(name)
    if options.provider.startswith("litellm"):
        importlib.import_module("nexa_litellm.loading").load_litellm()
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="nexa-bench-") as folder:
        os.chdir(folder)
        Path("nexa.toml").touch()
        Path("p.yaml").write_text(PIPELINE.format(**vars(options)))
        pipeline = nexa.load("p.yaml")
        if options.watch:
            watch.watch_loops()
            watch.watch_journals()
        clock = Stopwatch()
        pipeline.run(run_id="bench")
        seen = watch.end()
        status = json.loads(Path("artifacts/bench/status.json").read_text())
        clock.show(status["rows"].get("accepted", 0), status=status["status"], **seen)


if __name__ == "__main__":
    main()
