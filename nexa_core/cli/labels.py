"""`nexa label` and `nexa judges`: people's verdicts on rows, and what they say about judges."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import diagnostics, output
from nexa_core.cli.session import Command, Group, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nexa_core.actions.labelling import Labelling

KEYS = {"a": "accept", "d": "reject", "s": "skip", "z": "undo", "q": "quit"}
"""All under the left hand."""


@click.command(cls=Command)
@click.argument("run", default="latest")
@click.option("--rows", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Another seed draws other rows.")
@click.option("--plain", is_flag=True, help="Rows one under the other, without a screen.")
@pass_session
def label(session: Session, run: str, rows: int, seed: int, plain: bool) -> None:
    """Say which rows are good, one key each.

    Rows come blind and in an order of chance.

    \b
    a accept   d reject (and why)   s skip   z take the last one back   q end

    What was said is kept at once; a second `nexa label` goes on. `nexa judges calibrate` compares
    it with the judges.
    """
    from nexa_core.actions.labelling import open_labelling
    from nexa_core.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(
            "Labels are given by keys, and there is no terminal.",
            "Write them as JSON Lines of `row`, `verdict`, `reason` and give --labels to calibrate.",
        )
    opened = open_labelling(run, workspace=session.workspace, rows=rows, seed=seed)
    if plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        said = ask_all(opened, click.getchar, lambda: input("  why? "))
    else:
        from nexa_core.tui.labelling import LabelApp

        LabelApp(opened).run()
        said = opened.at
    done = {"run": opened.run, "labelled": said, "left": len(opened.rows) - said}
    output.answer(session.as_json, done, _show_done)


def ask_all(opened: Labelling, read_key: Callable[[], str], read_line: Callable[[], str]) -> int:
    """Show row after row and keep what is said; how many rows have a verdict now."""
    while opened.row is not None:
        number, total = opened.done + opened.at + 1, opened.done + len(opened.rows)
        diagnostics.show(_show_row(opened.texts, number, total))
        word = KEYS.get(read_key().lower())
        if word == "quit":
            break
        if word == "undo":
            opened.take_back()
        elif word is not None:
            opened.say(word, read_line().strip() if word == "reject" else "")
    return opened.at


@click.group(cls=Group)
def judges() -> None:
    """Compare judges with people's labels."""


@judges.command(cls=Command)
@click.argument("run", default="latest")
@click.option("--labels", metavar="PATH", help="A labels file or folder; else the run's own.")
@click.option("--risk", type=click.FloatRange(0.001, 0.5), default=0.1, show_default=True)
@click.option("--alpha", type=click.FloatRange(0.001, 0.5), default=0.05, show_default=True)
@pass_session
def calibrate(session: Session, run: str, labels: str | None, risk: float, alpha: float) -> None:
    """Say how far each judge agrees with people, and what that makes of its rates.

    The proposed threshold keeps the share of bad rows under --risk with confidence 1 − --alpha.
    """
    from nexa_core.actions.calibrating import calibrate as measure

    result = measure(run, workspace=session.workspace, labels=labels, risk=risk, alpha=alpha)
    output.answer(session.as_json, result, _show_calibration)


def _show_row(texts: Mapping[str, str], number: int, total: int) -> RenderableType:
    from nexa_core.cli import look

    parts = [look.block(name, look.say(text)) for name, text in texts.items()]
    keys = "   ".join(f"{key} {word}" for key, word in KEYS.items())
    return look.stack(
        look.blank(), look.say(f"{number} of {total}", "dim"), *parts, look.say(keys, "bold")
    )


def _show_done(done: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    left = f", {done['left']} left" if done["left"] else ""
    rows = "row" if done["labelled"] == 1 else "rows"
    return look.say(f"{done['labelled']} {rows} of '{done['run']}' labelled{left}.")


def _show_calibration(result: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look

    head = f"{result['labels']} labels, {result['accepted_by_people']} of them accept"
    if unused := result["labels_unused"]:
        head += f"; {unused} more are of other rows or answers than this run's last"
    blocks = [look.block(one["judge"], _show_judge(one)) for one in result["judges"]]
    return look.stack(look.line((result["run"], "bold"), f"  {head}"), *blocks)


def _show_judge(one: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.figures import show_percent

    if "kappa" not in one:
        return look.say("scored none of the labelled rows", "dim")
    kappa, table, corrected = one["kappa"], one["confusion"], one["corrected_rate"]
    trust = "" if one["is_trusted"] else "  under 0.6: every later run warns"
    low, high = show_percent(corrected["lower"]), show_percent(corrected["upper"])
    rate = f"{show_percent(corrected['value'])} ({low} – {high}) truly good"
    proposed = one["proposed_threshold"]
    sure = show_percent(1 - one["alpha"])
    goal = f"at most {show_percent(one['risk'])} bad rows kept, {sure} sure"
    threshold = f"{proposed:g}: {goal}" if proposed is not None else f"none certifies {goal}"
    between = f"({kappa['lower']:.2f} – {kappa['upper']:.2f})"
    same = f"the same verdict on {show_percent(one['accuracy'])} of rows"
    rows = [
        ("agreement", f"kappa {kappa['value']:.2f} {between}, {same}{trust}"),
        ("both keep", f"{table['kept_good']}, both reject {table['dropped_bad']}"),
        ("judge errs", f"keeps {table['kept_bad']} bad, rejects {table['dropped_good']} good"),
        ("accepts", f"{show_percent(one['kept_by_judge'])} at {one['threshold']:g}; {rate}"),
        ("threshold", threshold),
    ]
    if position := one["position"]:
        share = show_percent(position["same"] / position["n"])
        rows.append(
            ("position", f"{share} of {position['n']:,} rows have one winner in both orders")
        )
    return look.columns(rows)
