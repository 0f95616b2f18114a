"""The root of nexa_core: what authors import from, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import nexa_core

ROOT = Path(__file__).parent.parent.parent
GROUND_FLOOR = ("errors", "records", "events", "specs", "protocols")


def test_importing_it_imports_nothing_heavy() -> None:
    """Neither the root nor what a plugin's first lines import pulls pydantic or pyarrow in."""
    code = (
        "import sys; import nexa_core; light = set(sys.modules);"
        "from nexa_core import CheckSpec, hookimpl;"
        "print(sorted({'pluggy', 'pydantic', 'pyarrow', 'click'} & light),"
        " sorted({'pydantic', 'pyarrow', 'numpy', 'jinja2'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[] []"


def test_it_hands_out_the_whole_ground_floor() -> None:
    """Every public name of the ground floor is a name of the root, and is that object."""
    for home in GROUND_FLOOR:
        module = import_module(f"nexa_core.{home}")
        for name in module.__all__:
            assert getattr(nexa_core, name) is getattr(module, name)
            assert name in nexa_core.__all__


def test_its_names_are_sorted_and_real() -> None:
    """`__all__` is in order, and each name is there."""
    assert list(nexa_core.__all__) == sorted(nexa_core.__all__)
    for name in nexa_core.__all__:
        assert getattr(nexa_core, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        nexa_core.absent  # noqa: B018


def test_the_version_is_the_distributions() -> None:
    """Written twice, so that asking costs nothing; equal, or this fails."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nexa_core.__version__ == project["version"]
