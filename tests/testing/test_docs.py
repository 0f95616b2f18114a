"""The examples of docs/testing.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints an answer, the sums and the log."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    text, sums, log = capsys.readouterr().out.splitlines()
    assert len(text) > 20 and "nano-dollars" in sums and "(200, None, True)" in log
