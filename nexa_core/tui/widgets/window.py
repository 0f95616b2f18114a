"""A window on many lines, of which only those in sight are ever made."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from nexa_core.tui.ink import BLANK, fit, stack

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

    cursor: reactive[int] = reactive(0)
    top: reactive[int] = reactive(0)
    has_cursor = True

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
        """The lines in sight."""
        width, height = self.size
        if not width or not height:
            return BLANK
        self.set_reactive(Window.top, max(0, min(self.top, self.count - height)))
        shown = range(self.top, min(self.top + height, self.count))
        return stack(self._line(index, width) for index in shown)

    def _line(self, index: int, width: int) -> Content:
        if not self.has_cursor:
            return fit(self.draw_line(index, width), width)
        here = index == self.cursor and self.has_focus
        mark = Content.styled("▌", "$accent") if index == self.cursor else Content(" ")
        line = Content("").join([mark, fit(self.draw_line(index, width - 1), width - 1)])
        return line.stylize("on $accent 18%") if here else line

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
        height = max(1, self.size.height)
        if not self.has_cursor:
            self.top = min(line, max(0, self.count - height))
            return
        if line != self.cursor:
            self.cursor = line
            self.post_message(self.Moved(self))
        self.top = max(line - height + 1, min(self.top, line))

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
