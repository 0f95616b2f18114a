"""A workspace that collects from a chaos server through the real command line, to be hurt and resumed."""

from __future__ import annotations

import io
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.cli.app import run_command
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.testing.chaos import ChaosServer, Settings, serve_in_thread
from nexa_core.testing.faults import start_program

PROGRAM = Path(__file__).with_name("collecting.py")
READER = PROGRAM.with_name("reading.py")
IMPORTS = (
    *("nexa_core.actions.running", "nexa_core.cli.campaigns", "nexa_core.cli.display"),
    *("nexa_core.cli.app", "nexa_checks.catalog", "pyarrow.dataset", "ruamel.yaml"),
    *("nexa_openai.batches", "nexa_checks.metrics", "nexa_eval", "nexa_litellm", "nexa_reviewers"),
    *("nexa_tiny", "nexa_transformers", "nexa_trl"),
)
MODEL = "openai-compatible/chaos"
PRICE = {"input": 0.15, "output": 0.6}
"""Dollars per million tokens, as the chaos server bills by default."""


@dataclass
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict[str, Any]:
        """The JSON object that `--json` printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass
class Shop:
    """A workspace, its pipeline, and the ways to run it."""

    root: Path
    pipeline: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.root / "collect.yaml"

    def write(self, url: str, rows: int = 40, role: Any = None, **changes: Any) -> None:
        """The pipeline that collects `rows` answers from `url`; `changes` replace its sections."""
        lines = (json.dumps({"id": f"q{n}", "question": f"What is {n}?"}) for n in range(rows))
        (self.root / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
        teacher = {
            "model": MODEL,
            "base_url": url,
            "price": PRICE,
            "sampling": {"max_tokens": 60},
            **(role or {}),
        }
        step = {"id": "answer", "model": "teacher", "into": "response"}
        self.pipeline = {
            "nexa": 1,
            "name": "collect",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"teacher": {k: v for k, v in teacher.items() if v is not None}},
            "steps": [{"generate": {**step, "prompt": {"user": "{{ question }}"}}}],
            "scale": {"rows": "all", "shard_rows": 10},
        } | changes
        self.pipeline = {name: part for name, part in self.pipeline.items() if part is not None}
        self.file.write_text(json.dumps(self.pipeline, indent=1))

    def nexa(self, *arguments: str) -> Finished:
        """A command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command([*arguments, "--workspace", str(self.root)])
        return Finished(code, out.getvalue(), err.getvalue())

    def collect(self, run: str = "r", *arguments: str) -> Finished:
        """`nexa run` of the pipeline, or where the run is there already, `nexa resume`."""
        if (self.root / "artifacts" / run / "run.json").exists():
            return self.nexa("resume", run, "--json", *arguments)
        return self.nexa("run", str(self.file), "--run-id", run, "--json", *arguments)

    def start(self, *arguments: str, points: str = "") -> BaseProcess:
        """A command in a process of its own, with failpoints armed; it notes replies in `acks`."""
        known = [*arguments, "--workspace", str(self.root), "--json"]
        return start_program(PROGRAM, str(self.root), *known, points=points, imports=IMPORTS)

    def start_run(self, run: str = "r", points: str = "") -> BaseProcess:
        """`nexa run`, or `nexa resume` where there is something to resume, in its own process."""
        if (self.root / "artifacts" / run / "run.json").exists():
            return self.start("resume", run, points=points)
        return self.start("run", str(self.file), "--run-id", run, points=points)

    def start_reader(self, run: str = "r") -> BaseProcess:
        """A process that reads the run over and over."""
        return start_program(READER, str(self.root), run, imports=IMPORTS)

    def kill_at(self, points: str, run: str = "r") -> None:
        """Run until a failpoint kills the process."""
        process = self.start_run(run, points)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, (self.root / "err").read_text()

    @property
    def acks(self) -> list[str]:
        """The calls whose reply was journaled, as the processes noted beside nexa."""
        path = self.root / "acks"
        return path.read_text().split() if path.exists() else []

    def run(self, name: str = "r") -> Run:
        return Run(self.root / "artifacts" / name)

    def rows(self, run: str = "r") -> pa.Table:
        """The rows of scale, in order."""
        return self._tables(run, "?????.parquet")

    def calls(self, run: str = "r") -> pa.Table:
        """The calls of scale, in order."""
        return self._tables(run, "?????.calls.parquet")

    def hashes(self, run: str = "r") -> list[str]:
        """The content hash of every committed shard of scale."""
        return [entry.content_hash for entry in read_manifest(self.run(run).scale.path)]

    def asked(self, server: Any) -> Counter[str]:
        """How often a server was asked for each completion, by the hash of the request's body."""
        return Counter(entry.hash for entry in server.log if "completions" in entry.path)

    def wait(self, what: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.005)

    def _tables(self, run: str, pattern: str) -> pa.Table:
        files = sorted(self.run(run).scale.shards.glob(pattern))
        return pa.concat_tables([pq.read_table(file) for file in files])


@pytest.fixture(scope="session")
def make_shop() -> Callable[[Path], Shop]:
    """Makes an empty workspace in a folder."""

    def make(root: Path) -> Shop:
        root.mkdir(exist_ok=True)
        (root / "nexa.toml").write_text("nexa = 1\n")
        return Shop(root)

    return make


@pytest.fixture
def shop(tmp_path: Path, make_shop: Callable[[Path], Shop]) -> Shop:
    """An empty workspace."""
    return make_shop(tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[..., ChaosServer]]:
    """Starts chaos servers that end with the test."""
    with ExitStack() as stack:

        def begin(**settings: Any) -> ChaosServer:
            known = {"text_chars": 120, **settings}
            return stack.enter_context(serve_in_thread(Settings(**known)))

        yield begin
