"""The table of commands, their help, and the way from what was typed to an exit code.

A command's module is imported when the command is run, never to print the list of commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from nexa_core import __version__
from nexa_core.cli import diagnostics


class Entry(NamedTuple):
    """Where a command lives, and the line about it in `nexa --help`."""

    module: str
    summary: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Begin": {
        "init": Entry("setup", "Make a workspace here, from the shipped files."),
        "demo": Entry("campaigns", "Run the whole campaign on the embedded model."),
        "doctor": Entry("setup", "Check this machine, and say what is missing for what."),
    },
    "Before a run": {
        "validate": Entry("pipelines", "Check a pipeline file and show its plan."),
        "prompts": Entry("prompting", "Show and check prompts."),
        "preview": Entry("pipelines", "Take a few rows through the steps and show everything."),
        "estimate": Entry("estimates", "Say what a run will cost, before it costs anything."),
    },
    "Runs": {
        "run": Entry("campaigns", "Pilot, gate, scale, package, train, evaluate."),
        "pilot": Entry("campaigns", "Only the pilot and its gate."),
        "scale": Entry("campaigns", "Scale a run whose pilot has passed."),
        "resume": Entry("campaigns", "Take a run up again where it ended."),
        "stop": Entry("runs", "Ask a run that is under way to stop."),
        "status": Entry("status", "Show where a run stands."),
        "watch": Entry("watching", "Watch runs: progress, gate, rows; sign decisions."),
        "runs": Entry("runs", "List or remove runs."),
    },
    "Decisions": {
        "gate": Entry("gates", "Show, replay, verify or sign what the gate decided."),
        "accept": Entry("gates", "Decide again which rows are accepted, with no call."),
        "label": Entry("labels", "Say which rows are good, one key each."),
        "judges": Entry("labels", "Compare judges with people's labels."),
    },
    "Results": {
        "package": Entry("results", "Package accepted rows as a dataset."),
        "export": Entry("exports", "Copy a packaged dataset to a folder, a store or the hub."),
        "train": Entry("results", "Train on a packaged dataset."),
        "evaluate": Entry("results", "Evaluate base against tuned, or any models."),
        "diff": Entry("differences", "Show what sets run B apart from run A."),
        "compare": Entry("results", "Compare two sets of predictions, paired."),
        "report": Entry("results", "Write a run's report and say where it is."),
        "query": Entry("queries", "Ask the rows and calls of runs in SQL."),
    },
    "Parts": {
        "plugins": Entry("parts", "List what is installed."),
        "schema": Entry("parts", "Print the JSON Schema of a pipeline or a gate file."),
    },
}

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """The group of all commands, from the static table."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"nexa_core.cli.{COMMANDS[name].module}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One block per section, all with one column of names."""
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            rows = [(name.ljust(width), entry.summary) for name, entry in entries.items()]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    name="nexa",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --json; `nexa COMMAND --help` says more. RUN may be `latest`.",
)
@click.version_option(__version__, "--version", message="nexa %(version)s")
def nexa() -> None:
    """Turn a teacher model, or a raw base model, into a trained student, and prove each step first."""


def run_command(arguments: Sequence[str]) -> int:
    """Run what was typed; the exit code. Every error becomes a message here, and no traceback."""
    with diagnostics.Boundary(arguments) as boundary:
        code = nexa.main(list(arguments), prog_name="nexa", standalone_mode=False)
        boundary.exit_code = code if isinstance(code, int) else 0
    return boundary.exit_code
