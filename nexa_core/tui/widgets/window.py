"""A window on many lines, of which only those in sight are ever made."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from nexa_core.tui.ink import BLANK, fit, ink

__all__ = ["Window"]


class Window(Widget, can_focus=True):
    """Lines by number, with a cursor or without; a million cost no more than twenty.

    A subclass says how many there are (`count`) and draws one (`draw_line`).
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,space,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home", "go(0)", "First", show=False),
        Binding("end,G", "go(-1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    DEFAULT_CSS = "Window { height: 1fr; text-wrap: nowrap; text-overflow: clip; }"

    has_cursor = True

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's own word
        super().__init__(id=id)
        self.cursor = 0
        self.top = 0

    class Moved(Message):
        """The cursor stands on another line."""

        def __init__(self, window: Window) -> None:
            self.window = window
            super().__init__()

        @property
        def control(self) -> Window:
            return self.window

    class Chosen(Moved):
        """The line under the cursor was opened."""

    @property
    def count(self) -> int:
        """How many lines there are."""
        raise NotImplementedError

    def draw_line(self, index: int, width: int) -> Content:
        """One line, of any length; it is cut to the width."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """The line that a reader is at: the cursor's, or the uppermost."""
        return self.cursor if self.has_cursor else self.top

    def render(self) -> Content:
        """Nothing: lines are drawn one by one."""
        return BLANK

    def render_line(self, y: int) -> Strip:
        """One line in sight, counted from the uppermost."""
        width, index = self.size.width, self.top + y
        line = self._line(index, width) if 0 <= index < self.count else Content.blank(width)
        base = self.visual_style
        drawn = line.render(base, end="", parse_style=self._parse_style)
        segments = [Segment(text, (base + style).rich_style) for text, style in drawn]
        return Strip(segments, width)

    def _parse_style(self, style: str | Style) -> Style:
        return self.app.stylesheet.parse_style(style)

    def _line(self, index: int, width: int) -> Content:
        if not self.has_cursor:
            return fit(self.draw_line(index, width), width)
        here = index == self.cursor and self.has_focus
        mark = Content.styled("▌", "$accent") if index == self.cursor else Content(" ")
        line = ink(mark, fit(self.draw_line(index, width - 1), width - 1))
        return line.stylize("on $accent 18%") if here else line

    def redraw_lines(self, *indices: int) -> None:
        """Draw some lines anew, and no other."""
        width = self.outer_size.width
        self.refresh(*(Region(0, index - self.top, width, 1) for index in indices))

    def on_resize(self, event: events.Resize) -> None:
        """Another size shows other lines."""
        self.go_to(self.position)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move by lines."""
        self.go_to(self.position + by)

    def action_page(self, by: int) -> None:
        """Move by what is in sight."""
        self.go_to(self.position + by * max(1, self.size.height - 1))

    def action_go(self, line: int) -> None:
        """Move to a line; -1 is the last."""
        self.go_to(line if line >= 0 else self.count - 1)

    def action_choose(self) -> None:
        """Open the line under the cursor."""
        if self.has_cursor and self.count:
            self.post_message(self.Chosen(self))

    def go_to(self, line: int) -> None:
        """Put the reader at a line, and bring it into sight."""
        line = max(0, min(line, self.count - 1))
        height, before = max(1, self.size.height), (self.cursor, self.top)
        if self.has_cursor:
            self.cursor = line
            self.top = max(line - height + 1, min(self.top, line))
        else:
            self.top = line
        self.top = max(0, min(self.top, self.count - height))
        if self.top != before[1]:
            self.refresh()
        elif self.cursor != before[0]:
            self.redraw_lines(before[0], self.cursor)
        if self.cursor != before[0]:
            self.post_message(self.Moved(self))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.go_to(self.position + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.go_to(self.position - 3)

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor where it is; a second one there opens the line."""
        line = self.top + event.y
        if not self.has_cursor or line >= self.count:
            return
        if line == self.cursor:
            self.action_choose()
        self.go_to(line)
