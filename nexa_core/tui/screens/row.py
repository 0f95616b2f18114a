"""One row with everything that is stored of it: texts in full, scores, judges' reasons, where it comes from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from nexa_core.errors import NexaError
from nexa_core.figures import show_count, show_number
from nexa_core.tui.ink import BLANK, ink, style_of, wrap
from nexa_core.tui.screens.page import Page
from nexa_core.tui.widgets.canvas import Canvas
from nexa_core.tui.widgets.pane import Pane, Part

if TYPE_CHECKING:
    from nexa_core.tui.app import NexaApp

__all__ = ["RowPage", "ShownRows", "open_cited", "tell_row"]

DIM = "$foreground 60%"
OWN = frozenset(
    ["id", "source_id", "sample", "attempt", "parent_id", "scores", "flags", "state", "reason"]
) | {"provenance", "unit"}


@dataclass(frozen=True)
class ShownRows:
    """Rows to look at one by one: how many, how to get one (it may block), and which is first."""

    count: int
    get: Callable[[int], Mapping[str, Any]]
    start: int = 0
    title: str = ""


class RowPage(Page):
    """Where one reads a row."""

    place = "rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,n,right_square_bracket", "next(1)", "Next", key_display="→"),
        Binding("left,p,left_square_bracket", "next(-1)", "Previous", key_display="←"),
        Binding("escape,enter", "close", "Back", key_display="esc"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, rows: ShownRows) -> None:
        super().__init__()
        self._rows, self._at = rows, rows.start
        self._row: Mapping[str, Any] = {}

    def compose_body(self) -> ComposeResult:
        yield Canvas(self._draw_head, classes="rowhead")
        yield Pane()

    def on_mount(self) -> None:
        self.query_one(Pane).focus()
        self.action_next(0)

    def renew(self) -> None:
        """A row that is committed does not change."""

    def action_next(self, by: int) -> None:
        """Show the next row, or the one before."""
        self._at = max(0, min(self._at + by, self._rows.count - 1))
        self.run_worker(self._load(), exclusive=True)

    def action_close(self) -> None:
        """Back to where the row was chosen."""
        self.dismiss(self._at)  # type: ignore[arg-type]

    async def _load(self) -> None:
        pane = self.query_one(Pane)
        try:
            self._row = await asyncio.to_thread(self._rows.get, self._at)
            pane.show(tell_row(self._row, pane.size.width - 1))
        except NexaError as error:
            self._row = {}
            pane.show([str(error)])
        self.query_one(Canvas).refresh()

    def _draw_head(self, width: int, height: int) -> list[Content]:
        title = f"{self._rows.title}, " if self._rows.title else ""
        at = f"{title}row {show_count(self._at + 1)} of {show_count(self._rows.count)}"
        return [BLANK, ink((at, "bold"), (f"   {self._row.get('unit', '')}", DIM))]


def tell_row(row: Mapping[str, Any], width: int) -> list[Part]:
    """A row from top to bottom: what became of it, its texts, its scores, its provenance."""
    state = str(row.get("state") or "")
    parts: list[Part] = [ink((state, style_of(state)), "  ", (str(row.get("id") or ""), DIM))]
    if row.get("reason"):
        parts += wrap(str(row["reason"]), max(width, 20))
    if row.get("flags"):
        parts.append(ink(("flags  ", DIM), ", ".join(map(str, row["flags"]))))
    parts += _tell_scores(row)
    columns = list(_columns(row))
    for name, value in columns:
        if not _is_fact(name, value):
            parts += [BLANK, ink((name, "bold $accent")), _as_text(value)]
    facts = [(name, _as_text(value)) for name, value in columns if _is_fact(name, value)]
    return [*parts, *([BLANK] if facts else []), *_tell_facts(facts), *_tell_provenance(row)]


def _is_fact(name: str, value: Any) -> bool:
    """Whether a column is told in a word."""
    return isinstance(value, bool | int | float) or name.endswith("_finish_reason")


def _tell_facts(facts: Sequence[tuple[str, str]], least: int = 0) -> list[Part]:
    widest = max((len(name) for name, _ in facts), default=0)
    widest = max(widest, least)
    return [ink((f"{name:<{widest}}  ", DIM), value) for name, value in facts]


def _tell_scores(row: Mapping[str, Any]) -> list[Part]:
    """Each score, with what the judge said where it said something."""
    parts: list[Part] = []
    scores = {k: v for k, v in (row.get("scores") or {}).items() if v is not None}
    widest = max(map(len, scores), default=0)
    for name, value in scores.items():
        said = row.get(f"{name}_reason")
        parts.append(ink((f"{name:<{widest}}  ", DIM), f"{show_number(float(value)):>7}"))
        if said:
            parts.append(f"  {said}")
    return parts


def _columns(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The row's own columns that hold something; a judge's reason stands with its score already."""
    told = {f"{name}_reason" for name in (row.get("scores") or {})}
    for name, value in row.items():
        if name in OWN or name in told or value is None or _repeats(name, value, row):
            continue
        yield name, value


def _repeats(name: str, value: Any, row: Mapping[str, Any]) -> bool:
    """Whether a text as generated says no more than the text it was trimmed to."""
    trimmed = name.removesuffix("_raw_text")
    return trimmed != name and str(row.get(trimmed)).strip() == str(value).strip()


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return show_number(value)


def _tell_provenance(row: Mapping[str, Any]) -> list[Part]:
    """Where the row comes from: source, attempt, and for each step its model, prompt and calls."""
    found = row.get("provenance") or {}
    parts: list[Part] = [BLANK, ink(("provenance", "bold $accent"))]
    facts = [("source", row.get("source_id")), ("unit", row.get("unit"))]
    facts += [("sample", row.get("sample")), ("attempt", row.get("attempt"))]
    facts += [("retry of", row.get("parent_id")), ("code", found.get("code_commit"))]
    parts += _tell_facts([(name, str(value)) for name, value in facts if value is not None], 8)
    for step in found.get("steps") or ():
        model = " ".join(str(step[key]) for key in ("model", "revision") if step.get(key))
        prompt = f"{step.get('prompt') or ''} {str(step.get('prompt_hash') or '')[:12]}".strip()
        parts += [
            ink((f"{step['step']:<9} ", "bold"), model),
            ink(" " * 10, ("by ", DIM), str(step.get("served_by") or "–")),
        ]
        if prompt:
            parts.append(ink(" " * 10, ("prompt ", DIM), prompt))
        calls = ", ".join(map(str, step.get("call_ids") or ()))
        parts.append(ink(" " * 10, ("calls ", DIM), calls or "–"))
    return parts


def open_cited(app: NexaApp, review: Mapping[str, Any], cites: Sequence[str]) -> None:
    """Show the rows that an opinion cites; where it cites none, those that the record holds.

    Whole rows are looked for among the committed ones; the record's own shortened copy stands in.
    """
    samples = {str(row.get("id")): row for row in review.get("samples", ())}
    metrics = {str(check["metric"]) for check in review["checks"]}
    ids = [one for one in map(str, cites) if one not in metrics]
    chosen = ids or list(samples)
    if not chosen:
        app.notify("This record holds no row.", timeout=3)
        return
    app.run_worker(
        _open_found(app, review, chosen, samples, bool(ids)), group="cited", exclusive=True
    )


async def _open_found(
    app: NexaApp,
    review: Mapping[str, Any],
    ids: Sequence[str],
    samples: Mapping[str, Mapping[str, Any]],
    cited: bool,
) -> None:
    from nexa_core.actions.browsing import open_rows

    assert app.watching is not None
    folder, unit = app.watching.run_folder, f"iterations/{review['iteration']:02d}"
    try:
        rows = await asyncio.to_thread(lambda: open_rows(folder).find(ids, unit))
    except NexaError:
        rows = []
    found = {str(row["id"]): row for row in rows}
    shown = [row for one in ids if (row := found.get(one) or samples.get(one)) is not None]
    if not shown:
        app.notify("The cited rows are not among the committed ones.", timeout=4)
        return
    title = "Cited" if cited else "In the evidence"
    app.push_screen(RowPage(ShownRows(len(shown), shown.__getitem__, 0, title)))
