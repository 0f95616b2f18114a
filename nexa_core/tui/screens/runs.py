"""All runs of the workspace: state, decision, rows, cost, age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.figures import show_age, show_count, show_usd
from nexa_core.tui.ink import columns, fit, ink, style_of
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.window import Window

__all__ = ["RunsPage"]

DIM = "$foreground 60%"


class RunTable(Window):
    """A line for each run, the newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: Sequence[Mapping[str, Any]] = ()

    @property
    def count(self) -> int:
        return len(self.runs)

    def draw_line(self, index: int, width: int) -> Content:
        return draw_run(self.runs[index], width)

    def show(self, runs: Sequence[Mapping[str, Any]]) -> None:
        """Take the runs as they are now; the cursor stays on its run."""
        chosen = self.chosen
        self.runs = runs
        names = [run["run"] for run in runs]
        if chosen in names:
            self.go_to(names.index(chosen))
        self.refresh()

    @property
    def chosen(self) -> str | None:
        """The run under the cursor."""
        return str(self.runs[self.cursor]["run"]) if self.cursor < len(self.runs) else None


class RunsPage(Page):
    """Where one chooses what to watch."""

    place = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Watch"),
        Binding("3", "open('gate')", "Gate"),
        Binding("4", "open('rows')", "Rows"),
        Binding("2", "open", "Run", show=False),
        Binding("ctrl+p", "app.command_palette", "Palette"),
        Binding("q", "app.quit", "Quit"),
    ]

    def compose_body(self) -> ComposeResult:
        yield Canvas(_draw_heads, classes="titles")
        yield RunTable()
        yield Canvas(self._draw_note, classes="note")

    def on_mount(self) -> None:
        self.query_one(RunTable).focus()

    def renew(self) -> None:
        table = self.query_one(RunTable)
        table.show(self.nexa.runs)
        if not table.count:
            self.query_one(".note", Canvas).refresh()

    def on_window_chosen(self, message: Window.Chosen) -> None:
        message.stop()
        self.action_open()

    def action_open(self, place: str = "run") -> None:
        """Watch the run under the cursor."""
        if (chosen := self.query_one(RunTable).chosen) is not None:
            self.nexa.watch_run(chosen, place)

    def _draw_note(self, width: int, height: int) -> list[Content]:
        if self.nexa.runs:
            return []
        if not self.nexa.has_listed:
            return [ink(("  reading …", DIM))]
        told = ink("  There is no run here yet. ", ("nexa demo", "bold"), " makes one;")
        return [fit(ink(told, " what is made is seen here at once."), width)]


def _draw_heads(width: int, height: int) -> list[Content]:
    """The titles of the columns."""
    return [ink(" ") + _line([(h, DIM) for h in _HEADS], width - 1)][:height]


def draw_run(run: Mapping[str, Any], width: int) -> Content:
    """A run on one line."""
    if run["status"] == "unreadable":
        return ink((f"{run['run']}  ", "bold"), ("unreadable  ", "$error"), run.get("error", ""))
    rows = run["rows"]
    phase = f" {run['phase']}" if run["status"] == "running" and run["phase"] else ""
    others = sum(rows.get(state, 0) for state in ("rejected", "failed"))
    cells = [
        (run["run"], "bold"),
        (run["status"] + phase, style_of(run["status"])),
        (run.get("decision") or "–", style_of(run.get("decision"))),
        (show_count(rows.get("accepted", 0)), ""),
        (show_count(others), DIM),
        (show_usd(run["cost_usd"]), ""),
        (show_age(run["created_at"]), DIM),
    ]
    return _line(cells, width)


_HEADS = ("run", "state", "decision", "accepted", "others", "cost", "begun")
_WIDTHS = (0, 15, 8, 9, 8, 8, 10)


def _line(cells: Sequence[tuple[str, str]], width: int) -> Content:
    """Cells in the columns of the table; the first has what is left."""
    first = width - sum(_WIDTHS) - 2 * (len(_WIDTHS) - 1)
    return columns(
        [
            (text, wide or first, style, at >= 3)
            for at, ((text, style), wide) in enumerate(zip(cells, _WIDTHS, strict=True))
        ]
    )
