"""What a run ran on: code version, interpreter, packages, accelerator."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "nexa-core accelerate aiohttp bitsandbytes datasets duckdb numpy peft pluggy pyarrow pydantic "
    "safetensors scipy textual tokenizers torch transformers trl"
)


def describe_environment(folder: Path, commit: str | None) -> dict[str, Any]:
    """Git commit and dirty flag of `folder`, Python, platform, installed packages, GPU."""
    return {
        "git_commit": commit,
        "git_dirty": _has_changes(folder) if commit else None,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES.split() if (version := _version(name))},
        "gpu": describe_gpu(),
    }


def find_commit(folder: Path) -> str | None:
    """The git commit that is checked out in `folder`; None outside a repository."""
    return _ask("git", "-C", str(folder), "rev-parse", "HEAD") or None


def _has_changes(folder: Path) -> bool:
    return bool(_ask("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"))


def describe_gpu() -> str | None:
    """The first NVIDIA GPU's name and memory, None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    listed = _ask("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return listed.splitlines()[0] if listed else None


@cache  # parsing a package's metadata takes milliseconds, and a process goes on with what it loaded
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ask(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        asked = subprocess.run(  # noqa: S603 - fixed commands, no shell
            command, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
