"""What the gate decided and why: evidence, opinions, the change of parameters, history; and a person's say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.tui.ink import BLANK, ink, wrap
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.gauge import draw_chart
from nexa_core.tui.widgets.pane import Pane, Part
from nexa_core.tui.widgets.record import (
    Item,
    draw_head,
    explain,
    list_items,
    space_items,
    tell_change,
    tell_look,
    tell_opinion,
)
from nexa_core.tui.widgets.window import Window

__all__ = ["GatePage"]

DIM = "$foreground 60%"
AIRY = 24
"""Lines beside the items from which on there is room between their groups."""


class Evidence(Window):
    """Everything a decision rests on, a line each; headings are passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.items: Sequence[Item] = ()

    @property
    def count(self) -> int:
        return len(self.items)

    def draw_line(self, index: int, width: int) -> Content:
        return self.items[index].line

    @property
    def item(self) -> Item | None:
        """What the cursor stands on."""
        return self.items[self.cursor] if self.cursor < len(self.items) else None

    def show(self, items: Sequence[Item]) -> None:
        """Show other items; the cursor stays where it was as far as it can."""
        self.items = items
        self.cursor = self._next_item(min(self.cursor, max(0, len(items) - 1)), 1)
        self.refresh()

    def go_to(self, line: int) -> None:
        step = 1 if line >= self.cursor else -1
        super().go_to(self._next_item(max(0, min(line, self.count - 1)), step))
        if self.cursor and self.items[self.cursor - 1].kind == "heading":
            self.top = min(self.top, max(0, self.cursor - 2))
            self.refresh()

    def _next_item(self, line: int, step: int) -> int:
        """The nearest line that is no heading, in a direction, else the other way."""
        for towards in (step, -step):
            at = line
            while 0 <= at < self.count:
                if self.items[at].kind != "heading":
                    return at
                at += towards
        return line


class GatePage(Page):
    """Where one understands a decision, and makes one's own."""

    place = "gate"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sign", "Sign"),
        Binding("v", "veto", "Veto"),
        Binding("e", "edit", "Edit patch"),
        Binding("R", "app.go_on", "Go on"),
        Binding("c", "cited", "Cited rows"),
        Binding("left_square_bracket,left", "look(-1)", "Earlier", key_display="["),
        Binding("right_square_bracket,right", "look(1)", "Later", key_display="]"),
        Binding("escape", "app.leave", "Run"),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.chosen: int | None = None
        """The number of the look that is shown, from 0; None is the last."""

    def compose_body(self) -> ComposeResult:
        yield Canvas(self._draw_head, classes="look")
        yield Evidence()
        yield Pane(id="detail")

    def on_mount(self) -> None:
        self.query_one(Evidence).focus()

    def on_resize(self) -> None:
        self.renew()

    @property
    def reviews(self) -> Sequence[Mapping[str, Any]]:
        """Every record of the run, the oldest first."""
        return self.nexa.watching.reviews if self.nexa.watching else ()

    @property
    def review(self) -> Mapping[str, Any] | None:
        """The record that is shown."""
        if not self.reviews:
            return None
        at = len(self.reviews) - 1 if self.chosen is None else self.chosen
        return self.reviews[max(0, min(at, len(self.reviews) - 1))]

    def renew(self) -> None:
        if not self.is_mounted:
            return
        review = self.review
        width = max(20, self.size.width - 3)
        items = list_items(review, self.reviews, width) if review else []
        if len(items) + AIRY < self.size.height:
            items = space_items(items)
        evidence, head = self.query_one(Evidence), self.query_one(".look", Canvas)
        head.styles.height = len(self._draw_head(width, 4))
        # The explanation keeps enough room for its chart; a long record is scrolled.
        evidence.styles.height = max(4, min(len(items), self.size.height - 15))
        head.refresh()
        evidence.show(items)
        hidden = len(items) - int(evidence.styles.height.value if evidence.styles.height else 0)
        self.query_one("#detail").border_title = f"▼ {hidden} more" if hidden > 0 else ""
        self.call_after_refresh(self._tell, keep_place=True)

    def on_window_moved(self, message: Window.Moved) -> None:
        self._tell()

    def on_window_chosen(self, message: Window.Chosen) -> None:
        item = self.query_one(Evidence).item
        if item is not None and item.kind == "look":
            self._show_look(self.reviews.index(item.about))
        elif item is not None and item.kind == "opinion":
            self.action_cited()

    def _tell(self, *, keep_place: bool = False) -> None:
        """Say more about what the cursor stands on."""
        pane, item = self.query_one("#detail", Pane), self.query_one(Evidence).item
        width, height = max(20, self.size.width - 3), max(4, pane.size.height)
        parts: list[Part] = []
        if item is not None and self.review is not None:
            parts = self._detail(item, width, height)
        pane.show(parts, keep_place=keep_place)

    def _detail(self, item: Item, width: int, height: int) -> list[Part]:
        if item.kind == "rule":
            explained = wrap(explain(item.about, self.review), width, 2 if height < 10 else 4)
            watching = self.nexa.watching
            units = list(watching.gauges.items()) if watching else []
            room = max(4, min(14, height - len(explained)))
            chart = draw_chart(item.about.check.metric, units, width, room)
            return [*explained, *chart]
        if item.kind == "opinion":
            return tell_opinion(item.about)
        if item.kind == "change":
            return tell_change(item.about, self.review or {})
        return tell_look(item.about)

    def action_look(self, by: int) -> None:
        """Show an earlier or a later look."""
        if self.reviews:
            at = len(self.reviews) - 1 if self.chosen is None else self.chosen
            self._show_look(at + by)

    def _show_look(self, at: int) -> None:
        at = max(0, min(at, len(self.reviews) - 1))
        self.chosen = None if at == len(self.reviews) - 1 else at
        self.renew()

    def action_cited(self) -> None:
        """Show the rows that the opinion under the cursor cites, else the rows of the record."""
        from nexa_core.tui.screens.row import open_cited

        review, item = self.review, self.query_one(Evidence).item
        if review is not None:
            cites = item.about["cites"] if item is not None and item.kind == "opinion" else ()
            open_cited(self.nexa, review, cites)

    def action_sign(self) -> None:
        """Decide in one's own name."""
        self._open_signing("")

    def action_veto(self) -> None:
        """Refuse to go on as it is."""
        self._open_signing("ITERATE")

    def action_edit(self) -> None:
        """Change what the next iteration does."""
        self._open_signing("ITERATE", edit=True)

    def _open_signing(self, decision: str, *, edit: bool = False) -> None:
        from nexa_core.tui.screens.signing import SigningDialog

        if not self.reviews:
            self.notify("The gate has decided nothing yet.", timeout=4)
        elif self.review is not self.reviews[-1]:
            self.notify("Only the last look can be signed: ] leads to it.", timeout=4)
        else:
            dialog = SigningDialog(self.reviews[-1], decision, edit=edit)
            self.app.push_screen(dialog, self._after_signing)

    def _after_signing(self, signed: bool | None) -> None:
        if signed:
            self.chosen = None

    def _draw_head(self, width: int, height: int) -> list[Content]:
        review = self.review
        if review is None:
            gate = self.nexa.watching and self.nexa.watching.progress.outline.gate
            told = "has decided nothing yet" if gate else "this run has none"
            return [BLANK, ink(("Gate  ", "bold"), (told, DIM))]
        return draw_head(review, self.reviews, width, self._tell_next(review))

    def _tell_next(self, review: Mapping[str, Any]) -> Content:
        """What comes of the last look now, where that is a person's to say."""
        watching = self.nexa.watching
        if watching is None or review is not self.reviews[-1]:
            return BLANK
        if self.nexa.is_starting:
            return ink(("goes on", "bold $accent"), ("  a process of its own is starting", DIM))
        if watching.is_signed and watching.can_go_on:
            return ink(("R", "bold $accent"), " lets the run go on")
        return BLANK

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Signing is offered where nobody has signed yet."""
        if action in ("sign", "veto", "edit"):
            return self.nexa.watching is not None and self.nexa.watching.can_sign
        return True
