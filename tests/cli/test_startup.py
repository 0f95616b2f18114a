"""The command line starts quickly because it imports little; these promises look at a clean interpreter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from nexa_core.cli.app import COMMANDS, nexa

HEAVY = {
    "textual",
    "torch",
    "transformers",
    "pyarrow",
    "pydantic",
    "litellm",
    "aiohttp",
    "duckdb",
    "numpy",
    "ruamel",
}
SCRIPT = """
import json, sys
from nexa_core.cli.app import run_command
code = run_command(json.loads(sys.argv[1]))
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def imports_of(*arguments: str, cwd: Path) -> tuple[int, set[str]]:
    """Exit code and top-level modules of a command in an interpreter of its own."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


def test_help_imports_nothing_heavy(tmp_path):
    """`nexa --help` loads click and the standard library, not even rich."""
    code, modules = imports_of("--help", cwd=tmp_path)
    assert code == 0
    assert not modules & (HEAVY | {"rich", "pluggy", "asyncio"})


def test_status_imports_nothing_heavy(run, workspace):
    """`nexa status` of a real run reads it without Parquet, pydantic or a plugin."""
    code, modules = imports_of("status", cwd=workspace)
    assert code == 0
    assert not modules & (HEAVY | {"pluggy", "asyncio"})


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_module_says(name):
    """Each command stands in the module that the table names, with the summary that the table gives."""
    entry = COMMANDS[name]
    command = getattr(import_module(f"nexa_core.cli.{entry.module}"), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(limit=200) == entry.summary


def test_every_command_is_in_the_table():
    """A command that a module defines at its top level can be typed."""
    context = click.Context(nexa)
    groups = [nexa.get_command(context, name) for name in COMMANDS]
    known = {id(c) for c in groups} | {
        id(sub) for c in groups if isinstance(c, click.Group) for sub in c.commands.values()
    }
    for module in {entry.module for entry in COMMANDS.values()}:
        for value in vars(import_module(f"nexa_core.cli.{module}")).values():
            assert not isinstance(value, click.Command) or id(value) in known


def test_only_two_modules_write_to_the_streams():
    """stdout is written by output.py, stderr by diagnostics.py and the live screen, by nobody else."""
    import nexa_core.cli as package

    for path in Path(package.__file__).parent.glob("*.py"):
        names = {
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not calls & {"print", "click.echo", "click.secho"}, path.name
        assert path.name == "output.py" or not names & {"sys.stdout.write", "sys.stdout.buffer"}
        assert path.name == "diagnostics.py" or "sys.stderr.write" not in names
