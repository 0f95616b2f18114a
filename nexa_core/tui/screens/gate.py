"""What the gate decided and why: evidence, opinions, the change of parameters, history; and a person's say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.figures import show_count, show_number, show_percent, show_usd
from nexa_core.tui.ink import BLANK, ends, fit, ink, style_of, wrap
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.gauge import draw_chart, draw_checks
from nexa_core.tui.widgets.pane import Pane, Part
from nexa_core.tui.widgets.window import Window

if TYPE_CHECKING:
    from nexa_core.actions.gauging import Gauge

__all__ = ["GatePage"]

DIM = "$foreground 60%"


@dataclass(frozen=True)
class Item:
    """A line of the screen; what it stands for is told below it."""

    kind: str
    """heading, rule, opinion, change or look."""
    line: Content
    about: Any = None


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
        Binding("c", "cited", "Cited rows"),
        Binding("R", "app.go_on", "Go on"),
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
        return draw_head(review, self.reviews, width)


def draw_head(
    review: Mapping[str, Any], reviews: Sequence[Mapping[str, Any]], width: int
) -> list[Content]:
    """Which look it is, what was decided, and why."""
    word = str(review["decision"])
    waits = ("  waits for you", "bold $warning") if review.get("waiting") else ""
    title = ink((word, style_of(word)), waits)
    at = ink(
        (f"{_name_place(review)}{_name_most(review)}", ""),
        (f" · {show_count(review['look']['rows'])} rows", DIM),
        (f" · look {review['number']} of {len(reviews)}", DIM),
    )
    return [ends(title, at, width), *wrap(str(review["reason"]), width, 2)]


def _name_place(review: Mapping[str, Any]) -> str:
    """What was decided on: an iteration of the pilot, or a phase after it."""
    pilot = review["phase"] == "pilot"
    return f"iteration {review['iteration']}" if pilot else str(review["phase"])


def _name_most(review: Mapping[str, Any]) -> str:
    return f" of {review['max_iterations']}" if review["phase"] == "pilot" else ""


def list_items(
    review: Mapping[str, Any], reviews: Sequence[Mapping[str, Any]], width: int
) -> list[Item]:
    """Everything that a record holds, a line each, under its headings."""
    from nexa_core.actions.gauging import gauge_of

    gauges = [gauge_of(check) for check in review["checks"]]
    lines = draw_checks(gauges, width)
    items = [_heading("Evidence")]
    items += [Item("rule", line, gauge) for line, gauge in zip(lines, gauges, strict=True)]
    if review["opinions"]:
        items += [_heading("Reviewers")]
        items += [Item("opinion", draw_opinion(one), one) for one in review["opinions"]]
    if review["changes"]:
        title = "Proposed" if review.get("waiting") else "Changed"
        items += [_heading(title)]
        items += [Item("change", draw_change(*one), one) for one in review["changes"].items()]
    items += [_heading("History")]
    items += [Item("look", draw_look(one), one) for one in reviews]
    return items


def _heading(text: str) -> Item:
    return Item("heading", ink((text, f"bold {DIM}")))


def draw_opinion(opinion: Mapping[str, Any]) -> Content:
    """Who, what, and why, on one line."""
    says = "vetoes" if opinion.get("veto") else "proposes" if opinion.get("changes") else "says"
    if opinion.get("waits"):
        says = "asks you"
    style = "$warning" if says in ("vetoes", "asks you") else "$accent"
    cites = ", ".join(map(str, opinion.get("cites") or ()))
    cited = f"   cites {cites}" if cites else ""
    return ink(
        (f"{opinion['reviewer']} ", "bold"), (f"{says}  ", style), opinion["reason"], (cited, DIM)
    )


def draw_change(path: str, pair: Sequence[Any]) -> Content:
    """A parameter, from what to what."""
    old, new = pair
    return ink(f"{path}  ", (show_number(old), DIM), (" → ", DIM), (show_number(new), "bold"))


def draw_look(review: Mapping[str, Any]) -> Content:
    """A decision in the history."""
    word = str(review["decision"])
    signer = (review.get("signature") or {}).get("signer")
    changes = ", ".join(
        f"{path.rpartition('.')[2]} {show_number(old)}→{show_number(new)}"
        for path, (old, new) in review["changes"].items()
    )
    return ink(
        (f"{review['number']:>2}  {_name_place(review):<11}  ", DIM),
        fit(ink((word, style_of(word))), 8),
        (f"{show_count(review['look']['rows']):>6} rows  ", DIM),
        (f"signed by {signer}  " if signer else "", "$accent"),
        changes,
    )


def explain(gauge: Gauge, review: Mapping[str, Any] | None) -> str:
    """A rule in plain words: what was measured, how sure, what would pass."""
    from nexa_core.actions.gauging import explain_gauge

    gate = review["gate"] if review is not None and review["method"] == "gate" else None
    return explain_gauge(gauge, gate)


def tell_opinion(opinion: Mapping[str, Any]) -> list[Part]:
    """An opinion in full."""
    parts: list[Part] = [str(opinion["reason"])]
    if opinion.get("cites"):
        parts += [BLANK, ink(("cites  ", DIM), ", ".join(map(str, opinion["cites"])))]
    for path, value in (opinion.get("changes") or {}).items():
        parts.append(ink(("wants  ", DIM), f"{path} = ", (show_number(value), "bold")))
    raw = opinion.get("raw") or {}
    for name, value in raw.items():
        parts += [BLANK, ink((str(name), DIM)), str(value)]
    return parts


def tell_change(change: tuple[str, Sequence[Any]], review: Mapping[str, Any]) -> list[Part]:
    """A parameter's change, and how far it may move."""
    path, (old, new) = change
    space = review.get("search_space", {}).get(path, {})
    return [
        ink((path, "bold")),
        ink(("from   ", DIM), show_number(old)),
        ink(("to     ", DIM), (show_number(new), "bold")),
        ink(("range  ", DIM), describe_space(space)),
        str(review.get("patch_reason") or ""),
    ]


def describe_space(space: Mapping[str, Any]) -> str:
    """How far a parameter may move."""
    if "choices" in space:
        return "one of " + ", ".join(map(str, space["choices"]))
    if "min" in space:
        return f"{show_number(float(space['min']))} to {show_number(float(space['max']))}"
    return "not tunable"


def tell_look(review: Mapping[str, Any]) -> list[Part]:
    """A record's own facts."""
    gate = review["gate"]
    parts: list[Part] = [str(review["reason"]), BLANK]
    signature = review.get("signature")
    if signature:
        told = f"{signature['signer']}, {signature['signed_at']}: {signature['reason']}"
        parts.append(ink(("signed  ", DIM), told))
    parts += [
        ink(("gate    ", DIM), f"{gate['gate']}  ", (str(review["gate_hash"])[:16], DIM)),
        ink(("level   ", DIM), show_percent(review["look"]["alpha"]), (" of this iteration", DIM)),
        ink(("at      ", DIM), str(review["created_at"])),
        ink(("record  ", DIM), str(review["hash"])[:32]),
    ]
    if review.get("cost_nano"):
        parts.append(ink(("cost    ", DIM), show_usd(review["cost_nano"] / 1e9)))
    parts += [ink(("refused ", DIM), told) for told in review.get("refused", ())]
    return parts
