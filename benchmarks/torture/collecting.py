"""Runs to be tortured: a workspace, a pipeline against the chaos server, the program in its own process."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nexa_core.testing.chaos import Faults, RemoteControl, Settings, serve_in_process

PIPELINE = """\
nexa: 1
name: collect
source: {{path: rows.jsonl, id: id}}
models:
  teacher: {{model: openai-compatible/chaos, base_url: "{url}", concurrency: {concurrency}, timeout: 30,
             sampling: {{temperature: 0.7, max_tokens: 700}}, price: {{input: 0.15, output: 0.6}}}}
steps:
  - generate: {{id: answer, model: teacher, into: response,
                prompt: {{user: "{{{{ question }}}} Answer in a paragraph."}}}}
  - check: [empty]
scale: {{rows: all, shard_rows: {shard_rows}}}
budget: {{usd: 1000}}
fail_over: 0
"""

ROUGH = Faults(
    error_500=0.01,
    error_502=0.005,
    error_529=0.005,
    rate_limit=0.0005,
    cut=0.01,
    reset=0.005,
    invalid_json=0.01,
    wrong_shape=0.005,
    html=0.005,
    error_200=0.005,
    slow_first_byte=0.005,
    slow_drip=0.005,
    gzip=0.02,
)
"""Nine in a hundred tries fail; few of them with 429, so that many stay under way."""


@dataclass(frozen=True)
class Shape:
    """How large a run is."""

    rows: int
    shard_rows: int
    concurrency: int = 256


@dataclass(frozen=True)
class Job:
    """A run in a workspace of its own, which may be started again and again."""

    folder: Path
    run_id: str = "tortured"

    @classmethod
    def make(cls, folder: Path, url: str, shape: Shape) -> Job:
        """Write the workspace: rows, pipeline and mark."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nexa.toml").write_text("nexa = 1\n")
        rows = (
            {"id": f"q{number}", "question": f"What is known about specimen {number}?"}
            for number in range(shape.rows)
        )
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = PIPELINE.format(url=url, concurrency=shape.concurrency, shard_rows=shape.shard_rows)
        (folder / "collect.yaml").write_text(text)
        return cls(folder)

    @property
    def run_path(self) -> Path:
        return self.folder / "artifacts" / self.run_id

    @property
    def output(self) -> str:
        """What the last process said."""
        return (self.folder / "output.txt").read_text()

    def start(
        self, points: str = "", jumps: float = 0.0, output: str = "output.txt"
    ) -> BaseProcess:
        """`nexa run --run-id`, which begins the run or takes it up, with failpoints armed."""
        process = _forkserver().Process(
            target=_run_nexa,
            args=(str(self.folder), self.run_id, points, jumps, output),
            daemon=True,
        )
        process.start()
        return process

    def finish(self, points: str = "", seconds: float = 600) -> int | None:
        """Start it and wait; its exit code, negative for a signal."""
        process = self.start(points)
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"The run did not end within {seconds} s: {self.output[-500:]}")
        return process.exitcode


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[RemoteControl]:
    """A chaos server in a process of its own, which logs to `server.jsonl` of the folder.

    Every one stands at the same address, one after the other: the address is part of a call, and what
    runs against them made is compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"latency": 0.1, "most_faults": 3, "slow_seconds": 0.5, "retry_after": 0.05}
    chosen["port"] = find_port()
    with serve_in_process(
        Settings(**{**chosen, **settings}, log_path=folder / "server.jsonl")
    ) as server:
        yield server


@cache
def find_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _forkserver() -> Any:
    """A server that forks processes which have everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "nexa_core.actions.running",
            "nexa_core.cli",
            "nexa_openai.model",
            "pyarrow.parquet",
            __name__,
        ]
    )
    return context


def _run_nexa(folder: str, run_id: str, points: str, jumps: float, said: str) -> None:
    os.chdir(folder)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["nexa", "run", "collect.yaml", "--run-id", run_id, "--json"]
    from nexa_core.cli import main
    from nexa_core.store.failpoints import arm

    arm(points)
    if jumps:
        from torture.clocks import jump_clock

        jump_clock(jumps)
    with suppress(BrokenPipeError):
        main()
