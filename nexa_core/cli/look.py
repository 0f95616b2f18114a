"""How everything printed looks: a few styles, and text and tables made with them.

Every text goes through `make_visible` here; markup is never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nexa_core.figures import show_number
from nexa_core.visible import make_visible

__all__ = [
    "blank",
    "block",
    "columns",
    "describe",
    "inset",
    "line",
    "quote",
    "say",
    "stack",
    "style_of",
    "table",
]

_STYLES = {
    "PASS": "green",
    "FAIL": "red",
    "INCONCLUSIVE": "yellow",
    "PROCEED": "bold green",
    "ITERATE": "bold yellow",
    "EXTEND": "bold cyan",
    "STOP": "bold red",
    "accepted": "green",
    "rejected": "yellow",
    "failed": "red",
    "surplus": "dim",
    "done": "bold green",
    "running": "bold cyan",
    "waiting": "bold yellow",
    "short": "bold yellow",
    "stopped": "bold yellow",
    "budget": "bold yellow",
    "interrupted": "bold yellow",
    "ok": "green",
    "missing": "yellow",
    "problem": "red",
}


def style_of(word: object) -> str:
    """The style of a verdict, decision, state or status; none for other words."""
    return _STYLES.get(str(word), "")


def say(text: object, style: str = "") -> Text:
    """Text as it is, in a style."""
    return Text(make_visible(text), style=style)


def line(*parts: object) -> Text:
    """Parts one after the other; a pair is (text, style)."""
    return Text.assemble(
        *(
            part
            if isinstance(part, Text)
            else (make_visible(part[0]), str(part[1]))
            if isinstance(part, tuple)
            else make_visible(part)
            for part in parts
        )
    )


def blank() -> Text:
    """An empty line."""
    return Text("")


def stack(*parts: RenderableType | None) -> Group:
    """Parts one under the other; None is left out."""
    return Group(*(part for part in parts if part is not None))


def block(title: str, *parts: RenderableType | None) -> RenderableType:
    """A title and what belongs to it, set in by two."""
    return stack(blank(), say(title, "bold"), Padding(stack(*parts), (0, 0, 0, 2)))


def inset(part: RenderableType) -> RenderableType:
    """Something set in by two."""
    return Padding(part, (0, 0, 0, 2))


def quote(mark: str, text: object, style: str = "") -> RenderableType:
    """Somebody's words behind a mark; every line of them is set in."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(say(mark, "dim"), say(text, style))
    return grid


def describe(value: Mapping[str, Any]) -> RenderableType:
    """A mapping as name and value; mappings and lists of mappings in it are set in under their name."""
    parts: list[RenderableType] = []
    flat: list[tuple[object, ...]] = []

    def flush() -> None:
        if flat:
            parts.append(columns(list(flat)))
            flat.clear()

    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            flush()
            parts += [say(name, "dim"), inset(describe(each))]
        elif isinstance(each, (list, tuple)) and each and isinstance(each[0], Mapping):
            flush()
            parts += [say(name, "dim"), *(inset(describe(one)) for one in each)]
        else:
            flat.append((say(name, "dim"), _show_value(each)))
    flush()
    return stack(*parts)


def _show_value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None or value == {} else show_number(value)


def columns(
    rows: Iterable[Sequence[object]], right: Iterable[int] = (), fold: bool = True
) -> Table:
    """Rows in aligned columns without lines or heads; `right` names columns set to the right."""
    wanted = [[cell if isinstance(cell, Text) else say(cell) for cell in row] for row in rows]
    grid = Table.grid(padding=(0, 2, 0, 0))
    aligned = set(right)
    for index in range(max((len(row) for row in wanted), default=0)):
        last = fold and index == max(len(row) for row in wanted) - 1
        grid.add_column(justify="right" if index in aligned else "left", no_wrap=not last)
    for row in wanted:
        grid.add_row(*row)
    return grid


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()
) -> Table:
    """Rows in columns under dim heads."""
    aligned = set(right)
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, head in enumerate(heads):
        made.add_column(
            say(head),
            justify="right" if index in aligned else "left",
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else say(cell) for cell in row))
    return made
