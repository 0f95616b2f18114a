"""The verifier that runs a test on an answer, in a process that can do little harm.

A process gets an empty folder, no network where the kernel allows it, little memory, few seconds,
few files and processes, and no environment; with everything it starts it is killed at the time
limit. It runs as this user and can read this user's files: untrusted code wants a container around.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import as_array, read_text, require_option
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import CommandOptions

ASKER = "check 'command'"
_OUTPUT = 4096
_ISOLATED = (
    "unshare",
    "--user",
    "--map-current-user",
    "--net",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
)


class Command:
    """Fails a text for which the command does not end with exit status 0."""

    def __init__(self, options: CommandOptions) -> None:
        if not options.run_untrusted:
            raise UsageError(
                f"The {ASKER} runs what a model wrote on this machine, and nobody said it may.",
                "Write `run_untrusted: true` into its options, and run nexa in a container.",
            )
        self.field = require_option(options.field, "field", ASKER)
        self.options = options
        self.workers = options.workers or os.cpu_count() or 1
        self.head = find_isolation() if options.network is False else ()

    def score(self, table: pa.Table) -> ScoreColumns:
        names = {self.field, *(self.options.files or {}).values()}
        columns = {name: as_array(read_text(table, name, ASKER)).to_pylist() for name in names}
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        with ThreadPoolExecutor(self.workers) as pool:
            reasons = pa.array(list(pool.map(self._test, rows)), pa.string())
        valid = pa.array([row[self.field] is not None for row in rows], pa.bool_())
        failed = pc.if_else(valid, reasons.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reasons)

    def _test(self, row: Mapping[str, str | None]) -> str | None:
        """Why the row fails, None where it passes or has no text."""
        if row[self.field] is None:
            return None
        files = self.options.files or {"answer.txt": self.field}
        with tempfile.TemporaryDirectory(prefix="nexa-") as folder:
            for name, column in files.items():
                Path(folder, name).write_text(row[column] or "", encoding="utf-8")
            return self._run(Path(folder), row[self.field] or "")

    def _run(self, folder: Path, text: str) -> str | None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)}
        environment |= {"TMPDIR": str(folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
            given.write(text.encode())
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - that is what the user asked for
                [*self.head, sys.executable, "-I", "-S", "-c", _LIMIT, *self._limits, *self.options.command],
                cwd=folder, env=environment, stdin=given, stdout=output, stderr=output,
                start_new_session=True, close_fds=True,
            )  # fmt: skip
            try:
                status: int | None = process.wait(self.options.timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT))
            last = output.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        if status == 0:
            return None
        if status is None:
            return f"the command ran longer than {self.options.timeout:g} s"
        said = f"the command ended with {status}" if status > 0 else f"signal {-status} ended it"
        return f"{said} ({last[0][:120]})" if last else said

    @property
    def _limits(self) -> Sequence[str]:
        """CPU seconds, bytes of memory, bytes of a file, open files, processes."""
        own = self.options
        cpu, mb = max(1, round(own.timeout + 0.5)), 1 << 20
        return [str(n) for n in (cpu, own.memory_mb * mb, own.file_mb * mb, 64, own.processes)]


_LIMIT = """
import os, resource, sys
names = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC")
for name, value in zip(names, sys.argv[1:6]):
    kind, value = getattr(resource, name), int(value)
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    os.execvp(sys.argv[6], sys.argv[6:])
except OSError as cause:
    print(f"{sys.argv[6]}: {cause.strerror}")
    sys.exit(127)
"""
"""Sets the limits in the child itself, then becomes the command: safe beside other threads."""


@cache
def find_isolation() -> tuple[str, ...]:
    """The command that takes network and other processes away; empty where the kernel refuses."""
    if shutil.which(_ISOLATED[0]) is None:
        return ()
    tried = subprocess.run([*_ISOLATED, "true"], capture_output=True, check=False)  # noqa: S603
    return _ISOLATED if tried.returncode == 0 else ()
