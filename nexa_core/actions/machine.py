"""What this machine is: interpreter, cores, memory, disk, GPU, and which `nexa` answers to its name."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nexa_core.workspace import Workspace

__all__ = ["Finding", "examine_command", "examine_machine"]

LEAST_MEMORY_BYTES = 4e9
LEAST_FREE_BYTES = 2e9

Level = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` costs something optional, `problem` stops something wanted here."""

    topic: str
    name: str
    level: Level
    detail: str
    enables: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return asdict(self)


def examine_machine(workspace: Workspace) -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding(
        "machine",
        "Python",
        "problem" if old else "ok",
        version,
        fix="Use 3.11 or later." if old else "",
    )
    yield Finding("machine", "processor", "ok", f"{_count_cores()} cores, {platform.machine()}")
    memory = _read_memory()
    if memory:
        little = memory < LEAST_MEMORY_BYTES
        yield Finding(
            "machine",
            "memory",
            "missing" if little else "ok",
            f"{memory / 1e9:.1f} GB",
            enables="training on this machine" if little else "",
        )
    free = shutil.disk_usage(workspace.root).free
    scarce = free < LEAST_FREE_BYTES
    yield Finding(
        "machine",
        "disk",
        "problem" if scarce else "ok",
        f"{free / 1e9:.1f} GB free in {workspace.root}",
        fix="Free some space, or use --workspace on another disk." if scarce else "",
    )
    yield _examine_gpu()
    marked = workspace.marked
    yield Finding(
        "machine",
        "workspace",
        "ok" if marked else "missing",
        str(workspace.root) if marked else f"{workspace.root} has no nexa.toml",
        enables="" if marked else "files and plugins of your own",
        fix="" if marked else "nexa init",
    )


def _examine_gpu() -> Finding:
    from nexa_core.engine.environment import describe_gpu

    gpu = describe_gpu()
    if gpu:
        return Finding("machine", "GPU", "ok", gpu)
    return Finding(
        "machine", "GPU", "missing", "none", "training models beyond a few million parameters"
    )


def examine_command() -> Iterator[Finding]:
    """Another vendor's SDK installs a command of the same name; the first on PATH wins."""
    found = shutil.which("nexa")
    if found is None:
        yield Finding(
            "command",
            "nexa",
            "missing",
            "not on PATH",
            "typing `nexa`",
            "python -m nexa_core does the same.",
        )
    elif _is_ours(Path(found)):
        yield Finding("command", "nexa", "ok", found)
    else:
        yield Finding(
            "command",
            "nexa",
            "problem",
            f"{found} is another program",
            fix="Type `nexa-core` instead.",
        )


def _is_ours(path: Path) -> bool:
    try:
        return b"nexa_core" in path.read_bytes()[:4096]
    except OSError:
        return False


def _count_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_memory() -> float | None:
    """Bytes of memory: the machine's, or less where a control group limits this process."""
    try:
        whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, float(limit)) if limit.isdigit() else whole
