"""Every row of a run: accepted, rejected by reason, failed; paged through without being loaded."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.actions.browsing import Filter, RowLine, RowList, Rows, open_rows
from nexa_core.errors import NexaError
from nexa_core.figures import show_count
from nexa_core.records import name_reason
from nexa_core.tui.ink import BLANK, ends, fit, ink, style_of
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.pane import Pane
from nexa_core.tui.widgets.window import Window

__all__ = ["RowsPage"]

DIM = "$foreground 60%"
SPLIT_FROM = 110
"""Columns from which on the row under the cursor is shown beside the list."""
REST_SECONDS = 0.15
"""How long the cursor stands before the whole row is shown."""
BLOCK = 64
HELD_BLOCKS = 64


class RowTable(Window):
    """Rows by position; those in sight are read in a thread when they are first needed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: RowList | None = None
        self._blocks: dict[int, list[RowLine]] = {}
        self._wanted: set[int] = set()
        self._reader = ThreadPoolExecutor(1, "rows")

    @property
    def count(self) -> int:
        return len(self.rows) if self.rows is not None else 0

    def show(self, rows: RowList, *, keep_place: bool = False) -> None:
        """Show other rows, or more of the same."""
        self.rows = rows
        self._blocks.clear()
        self._wanted.clear()
        if not keep_place:
            self.cursor = self.top = 0
        self.go_to(self.cursor)
        self.refresh()

    def draw_line(self, index: int, width: int) -> Content:
        number = len(show_count(self.count))
        at = ink((f"{show_count(index + 1):>{number}}  ", "$foreground 40%"))
        block = self._blocks.get(index // BLOCK)
        if block is None:
            self._want(index // BLOCK)
            return at
        offset = index % BLOCK
        return ink(at, draw_row(block[offset], width - number - 2)) if offset < len(block) else at

    def _want(self, block: int) -> None:
        """Have a block of rows read; it is drawn when it has come."""
        if block not in self._wanted and self.rows is not None:
            self._wanted.add(block)
            self.run_worker(self._load(self.rows, block), group="rows")

    async def _load(self, rows: RowList, block: int) -> None:
        loop = asyncio.get_running_loop()
        page = await loop.run_in_executor(self._reader, rows.page, block * BLOCK, BLOCK)
        if rows is not self.rows:
            return
        self._blocks[block] = page
        self._wanted.discard(block)
        while len(self._blocks) > HELD_BLOCKS:
            self._blocks.pop(next(iter(self._blocks)))
        self.refresh()

    def on_unmount(self) -> None:
        self._reader.shutdown(wait=False, cancel_futures=True)


class RowsPage(Page):
    """Where one looks at rows."""

    place = "rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Whole row"),
        Binding("tab", "state(1)", "State"),
        Binding("shift+tab", "state(-1)", "State", show=False),
        Binding("f", "reason(1)", "Reason"),
        Binding("F", "reason(-1)", "Reason", show=False),
        Binding("u", "unit", "Unit"),
        Binding("slash", "go_to_row", "Go to"),
        Binding("escape", "app.leave", "Run"),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows: Rows | None = None
        self.filter = Filter()
        self._states: dict[str, int] = {}
        self._reasons: dict[str, int] = {}
        self._commits = -1
        self._problem = ""

    def compose_body(self) -> ComposeResult:
        yield Canvas(self._draw_filter, classes="filter")
        yield RowTable()
        yield Pane(id="beside")

    def on_mount(self) -> None:
        self.query_one(RowTable).focus()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= SPLIT_FROM, "split")
        self._show_beside()

    def renew(self) -> None:
        watching = self.nexa.watching
        if watching is not None and self.is_mounted and watching.commits != self._commits:
            self._commits = watching.commits
            self.run_worker(self._refresh_rows(), group="refresh", exclusive=True)

    async def _refresh_rows(self) -> None:
        """Count the rows anew; the place in the list stays."""
        assert self.nexa.watching is not None
        folder = self.nexa.watching.run_folder
        try:
            rows = self.rows
            if rows is None:
                self.rows = await asyncio.to_thread(open_rows, folder)
            elif not await asyncio.to_thread(rows.refresh):
                return
            self._problem = ""
            self._select(keep_place=rows is not None)
        except NexaError as error:
            self._problem = str(error)
            self.query_one(Canvas).refresh()

    def _select(self, *, keep_place: bool = False) -> None:
        if self.rows is None:
            return
        self._states = self.rows.count_states(self.filter.unit)
        self._reasons = self.rows.count_reasons(self.filter.unit)
        self.query_one(RowTable).show(self.rows.select(self.filter), keep_place=keep_place)
        self.query_one(Canvas).refresh()
        self._show_beside()

    def action_state(self, by: int) -> None:
        """Show the rows of the next state."""
        states = [None, *self._states]
        at = states.index(self.filter.state) if self.filter.state in states else 0
        self.filter = Filter(self.filter.unit, states[(at + by) % len(states)])
        self._select()

    def action_reason(self, by: int) -> None:
        """Show the rows rejected or failed for the next reason."""
        reasons = [None, *self._reasons]
        at = reasons.index(self.filter.reason) if self.filter.reason in reasons else 0
        self.filter = Filter(self.filter.unit, None, reasons[(at + by) % len(reasons)])
        self._select()

    def action_unit(self) -> None:
        """Show the rows of the next iteration, of scale, or of all."""
        units = [None, *(self.rows.units if self.rows else [])]
        at = units.index(self.filter.unit) if self.filter.unit in units else 0
        self.filter = Filter(units[(at + 1) % len(units)])
        self._select()

    def action_go_to_row(self) -> None:
        """Go to a row by its number."""
        from nexa_core.tui.screens.asking import NumberDialog

        table = self.query_one(RowTable)

        def go(number: int | None) -> None:
            if number is not None:
                table.go_to(number - 1)

        if table.count:
            self.app.push_screen(NumberDialog("Go to row", table.count), go)

    def on_window_moved(self, message: Window.Moved) -> None:
        self.query_one(Canvas).refresh()
        self._show_beside()

    def on_window_chosen(self, message: Window.Chosen) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Show the row under the cursor with everything there is of it."""
        from nexa_core.tui.screens.row import RowPage, ShownRows

        table = self.query_one(RowTable)
        if table.rows is not None and table.count:
            shown = ShownRows(len(table.rows), table.rows.whole, table.cursor)
            self.app.push_screen(RowPage(shown), lambda at: table.go_to(at or 0))

    def _show_beside(self) -> None:
        if self.has_class("split"):
            self.run_worker(self._load_beside(), group="beside", exclusive=True)

    async def _load_beside(self) -> None:
        """The row under the cursor, after a moment in which the cursor rested."""
        from nexa_core.tui.screens.row import tell_row

        await asyncio.sleep(REST_SECONDS)
        table = self.query_one(RowTable)
        pane = self.query_one("#beside", Pane)
        if table.rows is None or not table.count:
            pane.show([])
            return
        try:
            row = await asyncio.to_thread(table.rows.whole, table.cursor)
            pane.show(tell_row(row, pane.size.width - 1))
        except NexaError as error:
            pane.show([str(error)])

    def _draw_filter(self, width: int, height: int) -> list[Content]:
        if self.rows is None:
            return [BLANK, ink((self._problem or "reading the manifests …", DIM))]
        return [BLANK, *draw_filter(self.filter, self._states, self._reasons, self._at(), width)]

    def _at(self) -> tuple[int, int]:
        table = self.query_one(RowTable)
        return (table.cursor + 1 if table.count else 0), table.count


def draw_filter(
    wanted: Filter,
    states: dict[str, int],
    reasons: dict[str, int],
    at: tuple[int, int],
    width: int,
) -> list[Content]:
    """Which rows are shown, of how many of which kinds."""
    every = wanted.state is None and wanted.reason is None
    parts: list[object] = [_tab("all", sum(states.values()), every, "")]
    parts += [_tab(s, n, wanted.state == s, style_of(s)) for s, n in states.items()]
    place = ink((f"{show_count(at[0])} of {show_count(at[1])}", DIM))
    unit = ink(("in ", DIM), wanted.unit or "every unit", "   ")
    if wanted.reason is not None:
        said = ink(("reason ", DIM), (wanted.reason, "reverse"))
    else:
        told = ", ".join(f"{reason} {show_count(n)}" for reason, n in list(reasons.items())[:6])
        said = ink(("reasons ", DIM), (told or "none", DIM))
    return [ends(ink(*parts), place, width), fit(unit + said, width)]


def _tab(name: str, number: int, chosen: bool, style: str) -> Content:
    return ink((f" {name} ", f"reverse {style}" if chosen else style), f" {show_count(number)}  ")


MARKS = {"accepted": "✓", "rejected": "✗", "failed": "!", "surplus": "+"}
REASON = 12


def draw_row(row: RowLine, width: int) -> Content:
    """A row on one line: its state, why, and its texts side by side."""
    if row.problem:
        return ink(("cannot be read  ", "$error"), row.problem)
    texts = [" ".join(text.split()) for text in row.texts] or [""]
    mark = ink((MARKS.get(row.state, " "), style_of(row.state)))
    head = ink(mark, " ", fit(name_reason(row.reason), REASON, DIM))
    room = max(8, (width - head.cell_length) // len(texts) - 2)
    cells = [cell for text in texts for cell in ("  ", fit(text, room))]
    return ink(head, *cells)
