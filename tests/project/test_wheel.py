"""The wheel by itself: built, installed alone without torch, and used as the README says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


def call(
    *command: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment that holds the wheel and its core dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    env = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    built = call("uv", "build", "--wheel", "--out-dir", str(folder), cwd=ROOT, env=env)
    assert built.returncode == 0, built.stderr
    assert call("uv", "venv", str(folder / "env"), cwd=folder, env=env).returncode == 0
    wheel = next(folder.glob("*.whl"))
    python = str(folder / "env/bin/python")
    added = call("uv", "pip", "install", "--python", python, str(wheel), cwd=folder, env=env)
    assert added.returncode == 0, added.stderr
    return folder / "env/bin"


def nexa(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    return call(str(installed / "nexa"), *arguments, cwd=cwd, env=env)


def test_the_wheel_works_without_torch(installed: Path, tmp_path: Path) -> None:
    """`nexa init`, `validate`, the audit and an estimate run on the core dependencies alone."""
    assert nexa(installed, "init", str(tmp_path / "ws"), cwd=tmp_path).returncode == 0
    workspace = tmp_path / "ws"
    valid = nexa(installed, "validate", "pipelines/audit.yaml", cwd=workspace)
    assert valid.returncode == 0, valid.stderr
    ran = nexa(installed, "run", "pipelines/audit.yaml", cwd=workspace)
    assert ran.returncode == 0, ran.stderr
    told = nexa(installed, "estimate", "distill", cwd=workspace)
    assert told.returncode == 0 and "price book of" in told.stdout, told.stderr


def test_the_demo_says_which_extra_it_needs(installed: Path, tmp_path: Path) -> None:
    """Without torch `nexa demo` is exit 3, with the line to type and its size."""
    asked = nexa(installed, "demo", cwd=tmp_path)
    assert asked.returncode == 3
    assert "pip install 'nexa-core[" in asked.stderr and "GB" in asked.stderr
