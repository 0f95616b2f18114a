"""docs/gate.md is true: its rules are rules, its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from nexa_core.cli.gates import gate
from nexa_core.documents import parse_yaml
from nexa_reviewers.own_rules import PolicyOptions

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text()
COMMANDS = re.findall(r"^nexa gate ([^#\n]+)", PAGE, re.MULTILINE)


def test_the_rule_of_ones_own_is_read() -> None:
    """The YAML of the page is what `policy: {rules: …}` takes."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    options = PolicyOptions.model_validate({"rules": parse_yaml(block, "gate.md").data})
    assert next(iter(options.base())) == "runaway_rate"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_can_be_typed(line: str) -> None:
    """Its options exist; it is parsed and not run."""
    name, *arguments = shlex.split(line)
    command = gate.commands[name]
    assert isinstance(command.make_context(name, arguments), click.Context)
