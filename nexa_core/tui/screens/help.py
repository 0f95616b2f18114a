"""What the keys of a page do."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Static

from nexa_core.tui.ink import BLANK, fit, ink, stack
from nexa_core.tui.screens.dialog import Dialog
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.keys import list_keys

__all__ = ["HelpDialog"]

DIM = "$foreground 60%"
ALWAYS = (
    ("1 2 3 4", "Runs, Run, Gate, Rows"),
    ("↑ ↓ j k", "Move by a line"),
    ("pgup pgdn", "Move by a page"),
    ("home end", "The first, the last"),
    ("ctrl+p", "Everything by its name"),
    ("esc", "One step back"),
    ("q", "Leave; a run goes on without you"),
)
WORDS = {
    "runs": "Every run of this workspace. Enter watches the one under the cursor.",
    "run": "How the run goes. A bar is where the true rate lies; ┃ is the threshold, ● what was "
    "measured. '+53 rows' is how many rows more will likely decide a rule.",
    "gate": "What the gate decided and why. The line under the cursor is explained below. "
    "A person may sign a decision of their own; a failed rule can only be overridden that way, "
    "and everything made later says so.",
    "rows": "Every committed row. Characters that cannot be seen are written as ‹U+202E›.",
}


class HelpDialog(Dialog[None]):
    """Every key of the page behind it, and what the page is for."""

    BINDINGS = [Binding("question_mark,enter,q", "dismiss(None)", "Close", show=False)]

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page

    def compose_body(self) -> ComposeResult:
        yield Static(stack(self._lines()))

    def _lines(self) -> list[Content]:
        place = self._page.place
        lines = [ink((place.capitalize(), "bold $accent")), Content(WORDS[place]), BLANK]
        usual = {key for key, _ in ALWAYS} | {"^p"}
        lines += [_line(key, told) for key, told in list_keys(self._page) if key not in usual]
        return [*lines, BLANK, *(_line(key, told) for key, told in ALWAYS)]


def _line(key: str, told: str) -> Content:
    return ink(fit(ink((key, "bold")), 11), told)
