"""The first line of every screen: where one is, which run it is, how it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.widget import Widget

from nexa_core.figures import show_span
from nexa_core.tui.ink import ends, ink, style_of

if TYPE_CHECKING:
    from nexa_core.tui.app import NexaApp

__all__ = ["Head"]

PLACES = ("runs", "run", "gate", "rows")
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Head(Widget):
    """One line; it moves only while the run does."""

    DEFAULT_CSS = "Head { height: 1; dock: top; background: $panel; padding: 0 1; }"

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place

    def render(self) -> Content:
        app = cast("NexaApp", self.app)
        tabs: list[object] = [("nexa", "bold"), "  "]
        for name in PLACES:
            here = name == self._place
            tabs += [
                (f" {name.capitalize()} ", "bold reverse $accent" if here else "$foreground 60%"),
                " ",
            ]
        return ends(ink(*tabs), self._state(app), self.size.width)

    def _state(self, app: NexaApp) -> Content:
        watching = app.watching
        if watching is None or self._place == "runs":
            return ink((str(app.workspace.root), "$foreground 60%"))
        progress, status = watching.progress, watching.status
        moving = status in ("running", "starting")
        now = time.time() if moving else progress.updated_at
        spin = SPINNER[int(now * 4) % len(SPINNER)] + " " if moving else ""
        told = "stopping" if moving and progress.stopping else status
        began = progress.started_at
        span = f"  {show_span(max(0.0, now - began))}" if began else ""
        return ink(
            (watching.run, "bold"), "  ", (spin + told, style_of(status)), (span, "$foreground 60%")
        )
