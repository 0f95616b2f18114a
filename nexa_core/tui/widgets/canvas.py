"""A part of a screen that a function draws for the room there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.content import Content
from textual.widget import Widget

from nexa_core.tui.ink import BLANK, stack

__all__ = ["Canvas", "Draw"]

Draw = Callable[[int, int], Sequence[Content]]
"""Gives the lines for a width and a height; those beyond the height are left out."""


class Canvas(Widget):
    """Shows what its function draws, and nothing else."""

    DEFAULT_CSS = "Canvas { height: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, draw: Draw, *, classes: str = "") -> None:
        super().__init__(classes=classes)
        self._draw_lines = draw

    def render(self) -> Content:
        width, height = self.size
        if not width or not height:
            return BLANK
        lines = self._draw_lines(width, height)[:height]
        return stack(
            line if line.cell_length <= width else line.truncate(width, ellipsis=True)
            for line in lines
        )
