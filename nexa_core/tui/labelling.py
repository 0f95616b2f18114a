"""`nexa label` on a screen: one row at a time, blind, a key of the left hand for each verdict."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Label

from nexa_core.tui.ink import BLANK, bar, ends, ink
from nexa_core.tui.screens.dialog import Dialog
from nexa_core.tui.themes import THEME
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.keys import Keys
from nexa_core.tui.widgets.pane import Pane, Part

if TYPE_CHECKING:
    from nexa_core.actions.labelling import Labelling

__all__ = ["LabelApp"]

DIM = "$foreground 60%"


class ReasonDialog(Dialog[str]):
    """Asks why a row is bad; enter alone gives no reason, escape gives no verdict."""

    def compose_body(self) -> ComposeResult:
        yield Label(ink(("Why is it bad?", "bold"), ("  enter keeps, esc goes back", DIM)))
        yield Input(compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())


class LabelPage(Screen[None]):
    """The row in hand, and what can be said of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "say('accept')", "Accept"),
        Binding("d", "reject", "Reject"),
        Binding("s", "say('skip')", "Skip"),
        Binding("z", "take_back", "Take back"),
        Binding("q", "app.quit", "End"),
    ]

    def __init__(self, opened: Labelling) -> None:
        super().__init__()
        self.opened = opened

    def compose(self) -> ComposeResult:
        yield Canvas(self._draw_head, classes="labelled")
        yield Pane(id="row")
        yield Keys(has_help=False)

    def on_mount(self) -> None:
        self.query_one(Pane).focus()
        self._show()

    def _show(self) -> None:
        """Show the row in hand from its beginning."""
        parts: list[Part] = []
        for name, text in self.opened.texts.items():
            parts += [ink((name, "bold $accent")), text, BLANK]
        if self.opened.row is None:
            parts = ["Every row has a verdict. z takes the last one back, q ends."]
        self.query_one(Pane).show(parts)
        self.query_one(Canvas).refresh()

    def _draw_head(self, width: int, height: int) -> list[Content]:
        opened = self.opened
        done, total = opened.done + opened.at, opened.done + len(opened.rows)
        at = ink((f"{min(done + 1, total)}", "bold"), (f" of {total}", DIM))
        return [
            ends(ink(("Label  ", "bold"), (opened.run, DIM)), at, width),
            bar(done, total, width),
        ]

    def action_say(self, verdict: str, reason: str = "") -> None:
        """Keep a verdict at once, and show the next row."""
        if self.opened.row is not None:
            self.opened.say(verdict, reason)
            self._show()

    def action_reject(self) -> None:
        """Ask why, and keep it."""
        if self.opened.row is not None:
            self.app.push_screen(ReasonDialog(), self._reject)

    def _reject(self, reason: str | None) -> None:
        if reason is not None:
            self.action_say("reject", reason)

    def action_take_back(self) -> None:
        """Have the last row in hand again."""
        if self.opened.at:
            self.opened.take_back()
            self._show()


class LabelApp(App[None]):
    """`nexa label`: rows of one run, one after the other."""

    TITLE = "nexa"
    CSS_PATH = "nexa.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, opened: Labelling) -> None:
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.opened = opened

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = "nexa"
        self.push_screen(LabelPage(self.opened))
