"""What starting nexa loads, and what a plugin loads when it is only listed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "textual",
    "litellm",
    "aiohttp",
    "pyarrow",
    "duckdb",
    "scipy",
    "pydantic",
)


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    show = "import sys; print('\\n'.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    """`nexa --help` answers at once because no library of the work itself is loaded."""
    code = """
import sys
from nexa_core.cli import main
sys.argv = ["nexa", "--help"]
try:
    main()
except SystemExit:
    pass
"""
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize(
    "plugin",
    [
        "nexa_checks",
        "nexa_eval",
        "nexa_litellm",
        "nexa_openai",
        "nexa_reviewers",
        "nexa_tiny",
        "nexa_transformers",
        "nexa_trl",
    ],
)
def test_a_plugin_is_weightless(plugin: str) -> None:
    """Importing a first-party plugin loads no heavy library: that is left to `build`."""
    assert not loaded_by(f"import {plugin}") & set(HEAVY)


def test_the_root_is_weightless() -> None:
    """`import nexa_core` loads none of it either."""
    assert not loaded_by("import nexa_core") & set(HEAVY)
