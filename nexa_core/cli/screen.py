"""A run as a live screen: where it is, how fast, what it cost, what the gate sees. Made for 80 × 24."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nexa_core.actions.watching import Progress
from nexa_core.cli import look
from nexa_core.cli.figures import show_count, show_number, show_span, show_usd
from nexa_core.cli.trail import show_changes, show_checks

__all__ = ["Screen", "draw"]

WIDTH = 100
"""The screen is never wider than this: long lines are hard to read."""
FRAMES_PER_SECOND = 8
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PARAMETERS = 4


class Screen:
    """Draws the state of a run again and again below what the terminal already shows, then clears it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(
            stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=False
        )
        self._progress = Progress()
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=FRAMES_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()
        # A second Ctrl-C ends the process at once, and must not leave a terminal without a cursor.
        self._console.show_cursor(True)

    def update(self, progress: Progress, record: dict[str, object]) -> None:
        """Take the newest state; it is drawn with the next frame."""
        self._progress = progress

    def stop(self) -> None:
        """Clear what was drawn."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        size = self._console.size
        return draw(self._progress, time.time(), min(size.width, WIDTH), size.height)


def draw(progress: Progress, now: float, width: int = 80, height: int = 24) -> RenderableType:
    """The screen of one moment; at most `height` - 2 lines."""
    if not progress.run:
        return look.line((_spin(now), "cyan"), "  starting …")
    head = [
        look.blank(),
        _title(progress, now, width),
        look.blank(),
        _rail(progress, now),
        look.blank(),
    ]
    middle = [*_work(progress, width), *_money(progress)]
    room = height - 2 - len(head) - len(middle)
    return look.stack(*head, *middle, *_gate(progress, room, width), *_notes(progress))


def _spin(now: float) -> str:
    return _SPINNER[int(now * FRAMES_PER_SECOND) % len(_SPINNER)]


def _title(progress: Progress, now: float, width: int) -> RenderableType:
    began = progress.started_at or now
    left = look.line(("nexa ", "bold cyan"), (progress.run, "bold"))
    return _ends(left, look.say(show_span(now - began), "dim"), width)


def _rail(progress: Progress, now: float) -> RenderableType:
    """The phases in a row: done, under way, to come."""
    parts: list[object] = []
    for name in progress.outline.phases or tuple(progress.phases):
        phase = progress.phases.get(name)
        if parts:
            parts.append((" ── ", "dim"))
        if phase is None:
            parts.append((f"○ {name}", "dim"))
        elif phase.seconds is not None:
            parts += [("● ", "green"), name, (f" {show_span(phase.seconds)}", "dim")]
        else:
            parts.append((f"{_spin(now)} {name}", "bold cyan"))
    return look.line(" ", *parts)


def _work(progress: Progress, width: int) -> list[RenderableType]:
    """What is being done, how far it is, how fast it goes."""
    if progress.phase is None:
        return []
    if progress.phase.name in ("pilot", "scale"):
        return _rows(progress, width)
    if progress.training:
        return _training(progress, width)
    return []


def _rows(progress: Progress, width: int) -> list[RenderableType]:
    goal, reached = progress.goal, progress.reached
    left: list[object] = [" "]
    if progress.phase is not None and progress.phase.name == "pilot" and progress.iteration:
        left += [("Iteration ", "bold"), (progress.iteration, "bold")]
        if progress.outline.max_iterations:
            left.append((f" of {progress.outline.max_iterations}", "dim"))
    else:
        left.append(("Scale", "bold"))
    unit = "accepted" if progress.counts_accepted else "rows"
    counted = f"{show_count(reached)}" + (f" / {show_count(goal)}" if goal else "")
    lines: list[RenderableType] = [
        _ends(look.line(*left), look.line(counted, (f" {unit}", "dim")), width),
        _bar(reached, goal, width),
        _ends(_states(progress), _pace(progress), width),
    ]
    if progress.phase is not None and progress.phase.name == "pilot":
        lines += _parameters(progress)
    return lines


def _states(progress: Progress) -> Text:
    parts: list[object] = [" "]
    for state in ("accepted", "rejected", "failed", "surplus"):
        number = progress.rows.get(state, 0)
        if number or state != "surplus":
            style = look.style_of(state) if number else "dim"
            parts += [(show_count(number), style), (f" {state}   ", "dim")]
    return look.line(*parts)


def _pace(progress: Progress) -> Text:
    rate, left = progress.rate, progress.seconds_left
    speed = f"{rate:,.0f} rows/s" if rate and rate >= 10 else f"{rate:.1f} rows/s" if rate else ""
    eta = f"   {show_span(left)} left" if left and left >= 1 else ""
    return look.say(speed + eta, "dim")


def _parameters(progress: Progress) -> list[RenderableType]:
    changed = progress.changes
    shown = list(progress.parameters.items())[:_PARAMETERS]
    if not shown:
        return []
    parts: list[object] = [" "]
    for path, value in shown:
        name = (
            path.rpartition(".")[2]
            if len(_ends_of(progress.parameters)) == len(progress.parameters)
            else path
        )
        parts += [
            (f"{name} ", "dim"),
            (show_number(value), "cyan" if path in changed else ""),
            "   ",
        ]
    return [look.line(*parts)]


def _ends_of(parameters: Mapping[str, Any]) -> set[str]:
    """The last words of parameter paths; as many as there are paths when they tell them apart."""
    return {path.rpartition(".")[2] for path in parameters}


def _training(progress: Progress, width: int) -> list[RenderableType]:
    step, steps = progress.training["step"], progress.training["steps"]
    metrics = [
        f"{name} {show_number(value)}" for name, value in progress.training["metrics"].items()
    ]
    left = look.line(" ", ("Training", "bold"))
    return [
        _ends(left, look.line(f"{step} / {steps}", (" steps", "dim")), width),
        _bar(step, steps, width),
        look.say(f" {'   '.join(metrics[:4])}", "dim"),
    ]


def _money(progress: Progress) -> list[RenderableType]:
    calls = [f"{show_count(progress.calls.get('asked', 0))} asked"]
    calls += [
        f"{show_count(n)} {key}" for key in ("replayed", "reused") if (n := progress.calls.get(key))
    ]
    parts: list[object] = [(f" calls {' · '.join(calls)}", "dim")]
    if progress.cost_nano or progress.budget_usd:
        limit = f" of {show_usd(progress.budget_usd)}" if progress.budget_usd else ""
        parts += ["   ", show_usd(progress.cost_usd), (limit, "dim")]
        if progress.accepted and progress.cost_nano:
            each = show_usd(progress.cost_usd / progress.accepted)
            parts.append((f"   {each} per accepted row", "dim"))
    return [look.line(*parts)]


def _gate(progress: Progress, room: int, width: int) -> list[RenderableType]:
    """The last look of the gate: its rules as they stand, then what was changed and why."""
    if not progress.decision:
        return []
    checks = sorted(progress.decision["checks"], key=_urgency)
    changes = show_changes(progress.changes)
    reason = _clip(progress.changed_for, width - 4) if changes else []
    fits = max(1, room - 3 - len(changes) - len(reason))
    word = progress.decision["decision"]
    trail = _trail(progress.decisions)
    title = look.line((" Gate ", "bold"), (word, look.style_of(word)), (f"   {trail}", "dim"))
    parts: list[RenderableType] = [look.blank(), title, look.inset(show_checks(checks[:fits]))]
    if len(checks) > fits:
        parts.append(look.say(f"  {len(checks) - fits} more rules pass", "dim"))
    parts += [look.inset(each) for each in changes]
    parts += [look.inset(look.say(each, "dim")) for each in reason]
    return parts


def _urgency(check: Mapping[str, Any]) -> int:
    return ("FAIL", "INCONCLUSIVE", "PASS").index(str(check["verdict"]))


def _trail(decisions: Iterable[tuple[int, str]]) -> str:
    return "  ".join(
        f"{iteration} {decision.lower()}" for iteration, decision in list(decisions)[-5:]
    )


def _clip(text: str, width: int, most: int = 2) -> list[str]:
    """Text folded into at most `most` lines; the last ends in … where more was said."""
    import textwrap

    lines = textwrap.wrap(" ".join(text.split()), max(20, width))
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{lines[most - 1][: max(19, width - 2)]} …"]


def _notes(progress: Progress) -> list[RenderableType]:
    notes: list[RenderableType] = []
    if progress.warnings:
        notes.append(look.line((" warning ", "yellow"), _clip(progress.warnings[-1], 68, 1)[0]))
    if progress.stopping:
        text = " Stopping: bringing what is under way to a safe end. Ctrl-C again ends at once."
        notes.append(look.say(text, "yellow"))
    return notes


def _bar(done: float, goal: int | None, width: int) -> RenderableType:
    bar = ProgressBar(
        total=goal,
        completed=min(done, goal) if goal else 0,
        width=width - 3,
        pulse=goal is None,
        style="bright_black",
        complete_style="cyan",
        finished_style="green",
        pulse_style="cyan",
    )
    row = Table.grid(padding=0)
    row.add_row(Text(" "), bar)
    return row


def _ends(left: Text, right: Text, width: int) -> RenderableType:
    """Two texts at the two ends of a line."""
    row = Table.grid(padding=0)
    row.add_column(
        width=width - 2 - min(right.cell_len, width // 2), no_wrap=True, overflow="ellipsis"
    )
    row.add_column(justify="right", no_wrap=True)
    row.add_row(left, right)
    return row
