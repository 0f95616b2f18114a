"""A dialog that asks for a number."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Input, Label

from nexa_core.figures import show_count
from nexa_core.tui.ink import ink
from nexa_core.tui.screens.dialog import Dialog

__all__ = ["NumberDialog"]


class NumberDialog(Dialog[int]):
    """Asks for a number from 1 to `most`."""

    def __init__(self, question: str, most: int) -> None:
        super().__init__()
        self._question, self._most = question, most

    def compose_body(self) -> ComposeResult:
        yield Label(
            ink((self._question, "bold"), (f"  1 to {show_count(self._most)}", "$foreground 60%"))
        )
        yield Input(type="integer", compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        self.dismiss(max(1, min(int(text), self._most)) if text.lstrip("-").isdigit() else None)
