"""The examples of docs/money.md do what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nexa_core.cli.app import run_command

PAGE = Path(__file__).parents[2] / "docs" / "money.md"


def blocks(language: str) -> list[str]:
    """The code blocks of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_python_examples_hold() -> None:
    """They are assertions, and run as they stand."""
    assert len(blocks("python")) == 2
    for code in blocks("python"):
        exec(compile(code, PAGE.name, "exec"), {})


def test_the_commands_work(workspace_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints an estimate, in a new workspace and without a key."""
    for line in "".join(blocks("sh")).splitlines():
        assert run_command(shlex.split(line)[1:]) == 0
        assert "per accepted row" in capsys.readouterr().out
