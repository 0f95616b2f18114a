"""Long text to be read: headings and texts one under the other, folded to the width there is."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.content import Content

from nexa_core.tui.folding import fold_text
from nexa_core.tui.widgets.window import Window

__all__ = ["Pane", "Part"]

Part = str | Content
"""A text, which is folded, or a line made already, which is cut."""

LONGEST = 2_000_000
"""Characters of one text that are shown; more say how many."""


class Pane(Window):
    """Reads like a page; a text of a megabyte is folded once and then costs what is in sight."""

    has_cursor = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's own word
        super().__init__(id=id)
        self._parts: Sequence[Part] = ()
        self._lines: list[str | Content] = []
        self._width = 0

    def show(self, parts: Sequence[Part], *, keep_place: bool = False) -> None:
        """Show other parts, from their beginning."""
        self._parts = parts
        self._width = 0
        if not keep_place:
            self.top = 0
        self._fold()
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self._fold()
        super().on_resize(event)

    @property
    def count(self) -> int:
        return len(self._lines)

    def draw_line(self, index: int, width: int) -> Content:
        line = self._lines[index]
        return line if isinstance(line, Content) else Content(line)

    def _fold(self) -> None:
        width = self.size.width
        if not width or width == self._width:
            return
        self._width = width
        self._lines = []
        for part in self._parts:
            if isinstance(part, Content):
                self._lines.append(part)
            else:
                self._lines += fold_text(_cut(part), width - 1)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} characters more lie in the shard"
