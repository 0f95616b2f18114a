"""A run as a live screen: where it is, how fast, what it cost, what the gate sees. Made for 80 × 24."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nexa_core.actions.watching import Progress
from nexa_core.cli import look
from nexa_core.cli.trail import show_checks
from nexa_core.figures import show_count, show_number, show_span, show_usd

__all__ = ["Screen", "draw"]

WIDTH = 100
"""The screen is never wider than this: long lines are hard to read."""
FRAMES_PER_SECOND = 8
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TITLES = {
    "package": "Packaging the accepted rows",
    "train": "Training",
    "evaluate": "Evaluating base against tuned",
}


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
        return look.line(
            (_spin(now), "cyan"), "  starting …", ("  loading what the run needs", "dim")
        )
    head = [
        _title(progress, now, width),
        look.blank(),
        _rail(progress, now, width),
        look.blank(),
    ]
    middle = [*_work(progress, now, width), *_money(progress)]
    notes = _notes(progress, width)
    room = height - 2 - len(head) - len(middle)
    every = [*head, *middle, *_gate(progress, room - len(notes)), *notes]
    return look.stack(
        *(_trimmed(part, width - 1) if isinstance(part, Text) else part for part in every)
    )


def _spin(now: float) -> str:
    return _SPINNER[int(now * FRAMES_PER_SECOND) % len(_SPINNER)]


def _title(progress: Progress, now: float, width: int) -> RenderableType:
    began = progress.started_at or now
    left = look.line(("nexa ", "bold cyan"), (progress.run, "bold"))
    return _ends(left, look.say(show_span(now - began), "dim"), width)


def _rail(progress: Progress, now: float, width: int) -> RenderableType:
    """The phases in a row: done, under way, to come; with the time each took where there is room."""
    for timed in (True, False):
        text = look.line(" ", *_stations(progress, now, timed))
        if text.cell_len < width - 1:
            break
    return _trimmed(text, width - 2)


def _stations(progress: Progress, now: float, timed: bool) -> Iterator[object]:
    for name in progress.outline.phases or tuple(progress.phases):
        phase = progress.phases.get(name)
        if name != (progress.outline.phases or tuple(progress.phases))[0]:
            yield (" ── ", "dim")
        if phase is None:
            yield (f"○ {name}", "dim")
        elif phase.seconds is None:
            yield (f"{_spin(now)} {name}", "bold cyan")
        else:
            yield ("● ", "green")
            yield f"{name}"
            yield (f" {show_span(phase.seconds)}" if timed else "", "dim")


def _work(progress: Progress, now: float, width: int) -> list[RenderableType]:
    """What is being done, how far it is, how fast it goes."""
    if progress.phase is None:
        return []
    if progress.phase.name in ("pilot", "scale"):
        return _rows(progress, width)
    if progress.training:
        return _training(progress, width)
    title = look.line(" ", (_TITLES.get(progress.phase.name, progress.phase.name), "bold"))
    return [_ends(title, look.say(show_span(progress.phase.elapsed(now)), "dim"), width)]


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
        lines += _parameters(progress, width)
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


def _parameters(progress: Progress, width: int) -> list[RenderableType]:
    """The iteration's parameters; those that the reviewer changed with their old value, and why."""
    short = {path: path.rpartition(".")[2] for path in progress.parameters}
    if len(set(short.values())) < len(short):
        short = {path: path for path in short}
    parts: list[object] = [" "]
    for path, value in progress.parameters.items():
        old = progress.changes.get(path, [value])[0]
        was = (f"{show_number(old)} → ", "dim") if path in progress.changes else ""
        style = "bold cyan" if path in progress.changes else ""
        parts += [(f"{short[path]} ", "dim"), was, (show_number(value), style), "   "]
    found: list[RenderableType] = [_trimmed(look.line(*parts), width - 2)] if short else []
    reason = progress.changed_for if progress.changes else ""
    return [*found, *(look.say(f" {each}", "dim") for each in _clip(reason, width - 3))]


def _trimmed(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


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
    return [look.line(*parts), *_calls_live(progress)]


def _calls_live(progress: Progress) -> list[RenderableType]:
    """What is under way, of how many there may be, and what had to be tried again."""
    if not (live := progress.live) or progress.status != "running":
        return []
    failed = [f"{show_count(n)} {name.replace('_', ' ')}" for name, n in live["failures"].items()]
    again = f"   tried again: {', '.join(failed)}" if failed else ""
    counts = f" under way {show_count(live['under_way'])} of {show_count(live['limit'])}"
    risk = f"   {show_usd(live['at_risk_nano'] / 1e9)} at risk" if live["at_risk_nano"] else ""
    return [look.say(f"{counts}{again}{risk}", "dim")]


def _gate(progress: Progress, room: int) -> list[RenderableType]:
    """The last look of the gate: its rules as they stood then, those that do not hold first."""
    if not progress.decision or room < 4:
        return []
    checks = sorted(progress.decision["checks"], key=_urgency)
    fits = len(checks) if len(checks) <= room - 2 else room - 3
    word, iteration = progress.decision["decision"], progress.decision["iteration"]
    title = look.line(
        (" Gate ", "bold"),
        (word, look.style_of(word)),
        (f" on iteration {iteration}{_trail(progress.decisions[:-1])}", "dim"),
    )
    parts: list[RenderableType] = [look.blank(), title, look.inset(show_checks(checks[:fits]))]
    if len(checks) > fits:
        parts.append(look.say(f"  … and {len(checks) - fits} rules more", "dim"))
    return parts


def _urgency(check: Mapping[str, Any]) -> int:
    return ("FAIL", "INCONCLUSIVE", "PASS").index(str(check["verdict"]))


def _trail(decisions: Sequence[tuple[int, str]]) -> str:
    """The looks before the last: `after 1 iterate, 2 extend`."""
    looks = ", ".join(f"{iteration} {decision.lower()}" for iteration, decision in decisions[-4:])
    return f", after {looks}" if looks else ""


def _clip(text: str, width: int, most: int = 2) -> list[str]:
    """Text folded into at most `most` lines; the last ends in … where more was said."""
    import textwrap

    shown = text[: 4 * (most + 1) * max(20, width)]
    lines = textwrap.wrap(" ".join(shown.split()), max(20, width))
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{lines[most - 1][: max(19, width - 2)]} …"]


def _notes(progress: Progress, width: int) -> list[RenderableType]:
    notes: list[RenderableType] = []
    if progress.warnings:
        notes.append(
            look.line((" warning ", "yellow"), _clip(progress.warnings[-1], width - 12, 1)[0])
        )
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
