"""One run as it goes: phases, rows, calls, money, the gate as it stands, and rows as they are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.actions.watching import Progress
from nexa_core.figures import show_count, show_number, show_span, show_usd
from nexa_core.tui.ink import BLANK, bar, ends, ink, style_of, wrap
from nexa_core.tui.screens.page import Page
from nexa_core.tui.watching import Watching
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.gauge import draw_chart, draw_checks
from nexa_core.tui.widgets.samples import draw_samples

__all__ = ["RunPage", "draw_run"]

DIM = "$foreground 60%"
TITLES = {"package": "Packaging", "train": "Training", "evaluate": "Evaluating"}
TALL = 34
"""From so many lines on there is room for a chart and for rows."""


class RunPage(Page):
    """Where one sees how a run goes."""

    place = "run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g,enter", "app.show('gate')", "Gate"),
        Binding("r", "app.show('rows')", "Rows"),
        Binding("m", "next_metric", "Metric over time"),
        Binding("R", "app.go_on", "Go on"),
        Binding("escape", "app.leave", "Runs"),
        Binding("ctrl+p", "app.command_palette", "Palette"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.charted: int | None = None

    def compose_body(self) -> ComposeResult:
        yield Canvas(self._draw)

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def renew(self) -> None:
        self.query_one(Canvas).refresh()

    def _tick(self) -> None:
        """Times go on without an event."""
        watching = self.nexa.watching
        if watching is not None and watching.status == "running":
            self.renew()

    def action_next_metric(self) -> None:
        """Draw the next rule of the gate over time; after the last, none."""
        watching = self.nexa.watching
        current = watching.current if watching else None
        number = len(current.gauges) if current else 0
        if not number:
            self.notify("No rule of a gate has been measured yet.", timeout=3)
            return
        following = 0 if self.charted is None else self.charted + 1
        self.charted = following if following < number else None
        self.renew()

    def _draw(self, width: int, height: int) -> list[Content]:
        watching = self.nexa.watching
        if watching is None:
            return []
        starting = self.nexa.is_starting
        return draw_run(watching, time.time(), width, height, self.charted, starting=starting)


def draw_run(
    watching: Watching,
    now: float,
    width: int,
    height: int,
    charted: int | None = None,
    *,
    starting: bool = False,
) -> list[Content]:
    """The screen of one moment; `charted` is the number of the rule that is drawn over time."""
    progress = watching.progress
    lines = [BLANK, *_rail(progress, now, width), BLANK]
    lines += [*_work(progress, width), *_flow(progress), *_money(progress)]
    lines += [*_notes(watching, width, starting)]
    lines += [BLANK, *_gate(watching, width)]
    if charted is None and height >= TALL:
        charted = _most_urgent(watching)
    if charted is not None and watching.current:
        metric = watching.current.gauges[charted].check.metric
        room = max(6, min(10, height - len(lines) - 3))
        lines += [BLANK, ink((metric, "bold"), (" over the rows of each unit", DIM))]
        lines += draw_chart(metric, list(watching.gauges.items()), width, room)
    return lines + draw_samples(progress, height - len(lines))


def _most_urgent(watching: Watching) -> int | None:
    """The rule that stands worst: one that fails, else an open one, else the first."""
    if watching.current is None:
        return None
    order = ("FAIL", "INCONCLUSIVE", "PASS")
    ranks = [order.index(str(g.check.verdict)) for g in watching.current.gauges]
    return ranks.index(min(ranks))


def _rail(progress: Progress, now: float, width: int) -> list[Content]:
    """The phases in a row: done, under way, to come."""
    for timed in (True, False):
        line = ink(*_stations(progress, now, timed))
        if line.cell_length <= width:
            break
    return [line]


def _stations(progress: Progress, now: float, timed: bool) -> Iterator[object]:
    names = progress.outline.phases or tuple(progress.phases)
    for index, name in enumerate(names):
        phase = progress.phases.get(name)
        if index:
            yield (" ── ", "$foreground 25%")
        if phase is None:
            yield (f"○ {name}", DIM)
        elif phase.seconds is None:
            yield (f"◐ {name}", "bold $accent")
            yield (f" {show_span(phase.elapsed(now))}" if timed else "", DIM)
        else:
            yield ("● ", "$success")
            yield name
            yield (f" {show_span(phase.seconds)}" if timed else "", DIM)


def _work(progress: Progress, width: int) -> list[Content]:
    """What is being done, how far it is, how fast it goes."""
    if progress.phase is None:
        return [ink(("starting …", DIM))]
    if progress.status not in ("running", "starting"):
        return [ink((progress.status.capitalize(), "bold")), *_states(progress, width)]
    if progress.phase.name in ("pilot", "scale"):
        return _rows(progress, width)
    title = ink((TITLES.get(progress.phase.name, progress.phase.name), "bold"))
    if not progress.training:
        return [title, *_states(progress, width)]
    step, steps = progress.training["step"], progress.training["steps"]
    shown = list(progress.training["metrics"].items())[:4]
    metrics = [ink((f"{name} ", DIM), show_number(value), "   ") for name, value in shown]
    return [
        ends(title, ink(f"{step} / {steps}", (" steps", DIM)), width),
        bar(step, steps, width),
        Content("").join(metrics),
        *_states(progress, width),
    ]


def _rows(progress: Progress, width: int) -> list[Content]:
    goal, reached = progress.goal, progress.reached
    unit = "accepted" if progress.counts_accepted else "rows"
    of = f" / {show_count(goal)}" if goal else ""
    counted = ink((show_count(reached), "bold"), of, (f" {unit}", DIM))
    return [
        ends(_title(progress), counted, width),
        bar(reached, goal, width),
        *_states(progress, width),
    ]


def _title(progress: Progress) -> Content:
    assert progress.phase is not None
    if progress.phase.name != "pilot":
        return ink(("Scale", "bold"))
    most = progress.outline.max_iterations
    return ink(
        (f"Pilot, iteration {progress.iteration or 1}", "bold"),
        (f" of {most}" if most else "", DIM),
    )


def _states(progress: Progress, width: int) -> list[Content]:
    parts: list[object] = []
    for state in ("accepted", "rejected", "failed", "surplus"):
        number = progress.rows.get(state, 0)
        if number or state != "surplus":
            style = style_of(state) if number else DIM
            parts += [(show_count(number), style), (f" {state}   ", DIM)]
    return [ends(ink(*parts), _pace(progress), width)]


def _pace(progress: Progress) -> Content:
    if progress.status != "running":
        return BLANK
    rate, left = progress.rate, progress.seconds_left
    speed = f"{rate:,.0f}" if rate and rate >= 10 else f"{rate:.1f}" if rate else ""
    parts: list[object] = [speed, (" rows/s" if speed else "", DIM)]
    if left and left >= 1:
        parts += ["   ", show_span(left), (" left", DIM)]
    return ink(*parts)


def _flow(progress: Progress) -> list[Content]:
    """Calls: how many, how many at once, and what had to be tried again."""
    calls, live = progress.calls, progress.live
    told = [f"{show_count(calls.get('asked', 0))} asked"]
    told += [f"{show_count(n)} {key}" for key in ("reused", "replayed") if (n := calls.get(key))]
    parts: list[object] = [("calls  ", DIM), " · ".join(told)]
    if live and progress.status == "running":
        parts += [("   under way ", DIM), show_count(live["under_way"])]
        parts += [(f" of {show_count(live['limit'])}", DIM)]
    if live and live["failures"]:
        again = ", ".join(
            f"{show_count(n)} {name.replace('_', ' ')}" for name, n in live["failures"].items()
        )
        parts += [("   tried again ", DIM), (again, "$warning")]
    return [ink(*parts)]


def _money(progress: Progress) -> list[Content]:
    """Money against its cap, and what an accepted row costs."""
    cap = _cap(progress)
    if not progress.cost_nano and cap is None:
        return [ink(("money  ", DIM), "$0.00", ("   nothing of this run is paid for", DIM))]
    parts: list[object] = [("money  ", DIM), (show_usd(progress.cost_usd), "bold")]
    if cap:
        parts += [(f" of {show_usd(cap)}  ", DIM), bar(progress.cost_usd, cap, 16)]
    if progress.accepted and progress.cost_nano:
        parts += [
            "   ",
            show_usd(progress.cost_usd / progress.accepted),
            (" per accepted row", DIM),
        ]
    if progress.live and progress.live["at_risk_nano"]:
        risk = show_usd(progress.live["at_risk_nano"] / 1e9)
        parts += ["   ", (risk, "$warning"), (" at risk", DIM)]
    return [ink(*parts)]


def _cap(progress: Progress) -> float | None:
    if progress.live and progress.live.get("cap_nano"):
        return float(progress.live["cap_nano"] / 1e9)
    return progress.budget_usd


def _notes(watching: Watching, width: int, starting: bool) -> list[Content]:
    """What a person should know: how it ended, the last warning, what cannot be read."""
    progress, lines = watching.progress, []
    if starting:
        told = "  a process of its own is starting; leaving does not stop it"
        lines.append(ink(("goes on", "bold $accent"), (told, DIM)))
    elif watching.waits_for_signature:
        lines.append(
            ink(("waits for you  ", "bold $warning"), ("g", "bold $accent"), " opens the gate")
        )
    elif watching.is_signed and watching.can_go_on:
        lines.append(
            ink(("signed  ", "bold $success"), ("R", "bold $accent"), " lets the run go on")
        )
    elif progress.reason and progress.status != "running":
        lines += [
            line.stylize(style_of(progress.status)) for line in wrap(progress.reason, width, 2)
        ]
    if progress.warnings:
        lines.append(ink(("warning  ", "$warning"), progress.warnings[-1]))
    if watching.problem:
        lines.append(ink(("cannot be read  ", "$error"), watching.problem))
    return lines


def _gate(watching: Watching, width: int) -> list[Content]:
    """The gate as the committed rows stand: every rule, its bounds, and how many rows it needs."""
    current, progress = watching.current, watching.progress
    if current is None:
        waits = "no rows measured yet" if watching.commits else "measuring …"
        told = waits if progress.outline.gate else "this run has none"
        return [ink(("Gate  ", "bold"), (told, DIM))]
    unit = list(watching.gauges)[-1]
    looks = [
        ink((f"{number} " if number else "", DIM), (word, style_of(word)), "  ")
        for number, word in progress.decisions[-4:]
    ]
    title = ink(("Gate  ", "bold"), (f"{unit}, {show_count(current.rows)} rows", DIM))
    return [
        ends(title, Content("").join(looks).rstrip(), width),
        *draw_checks(current.gauges, width),
    ]
