"""What all screens share: the head above, the keys below, and being drawn again when something happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from nexa_core.tui.widgets.head import Head
from nexa_core.tui.widgets.keys import Keys

if TYPE_CHECKING:
    from nexa_core.tui.app import NexaApp

__all__ = ["Page"]


class Page(Screen[None]):
    """A screen that the number keys lead to."""

    place: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "app.show('runs')", "Runs", show=False),
        Binding("2", "app.show('run')", "Run", show=False),
        Binding("3", "app.show('gate')", "Gate", show=False),
        Binding("4", "app.show('rows')", "Rows", show=False),
        Binding("escape", "app.leave", "Back", show=False),
        Binding("question_mark", "app.help", "Help", show=False),
    ]

    def compose(self) -> ComposeResult:
        yield Head(self.place)
        yield from self.compose_body()
        yield Keys()

    def compose_body(self) -> ComposeResult:
        """What stands between head and keys."""
        raise NotImplementedError

    def renew(self) -> None:
        """Draw what is new; called when something happened, and when the screen is shown."""
        raise NotImplementedError

    @property
    def is_composed(self) -> bool:
        """Whether everything of the page is there: a page is mounted a moment before its parts."""
        return self.is_mounted and bool(self.query(Keys))

    @property
    def nexa(self) -> NexaApp:
        """The application, by its own type."""
        return cast("NexaApp", self.app)

    def on_screen_resume(self) -> None:
        self.renew()
        self.query_one(Head).refresh()
        self.query_one(Keys).refresh()
