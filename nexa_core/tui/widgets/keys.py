"""The last line of every page: what can be pressed here, the most useful first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from nexa_core.tui.ink import ink

__all__ = ["Keys", "list_keys"]

_NAMES = {
    "slash": "/",
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
    "ctrl+p": "^p",
}


class Keys(Widget):
    """Hints for as many keys as there is room for; `?` is always among them where there is help."""

    DEFAULT_CSS = (
        "Keys { height: 1; dock: bottom; background: $panel; padding: 0 1; text-wrap: nowrap; }"
    )

    def __init__(self, *, has_help: bool = True) -> None:
        super().__init__()
        self._has_help = has_help

    def render(self) -> Content:
        hints = [_hint(key, told) for key, told in list_keys(self.screen)]
        last = _hint("?", "Help") if self._has_help else Content("")
        room = self.size.width - last.cell_length
        line = Content("")
        for hint in hints:
            if line.cell_length + hint.cell_length > room:
                break
            line += hint
        return line + last


def list_keys(page: Screen[Any]) -> Iterator[tuple[str, str]]:
    """The keys of a page that are worth a hint and do something now, in the order it names them."""
    for binding in type(page).__dict__.get("BINDINGS", ()):
        if isinstance(binding, Binding) and binding.show and _is_possible(page, binding):
            first = binding.key.partition(",")[0]
            yield binding.key_display or _NAMES.get(first, first), binding.description


def _is_possible(page: Screen[Any], binding: Binding) -> bool:
    action = binding.action.removeprefix("app.")
    asked = page.app if binding.action.startswith("app.") else page
    return bool(asked.check_action(action, ()))


def _hint(key: str, told: str) -> Content:
    return ink((key, "bold $accent"), f" {told}   ")
