"""The only writer of stdout: JSON, text and tables, with nothing in them that could steer a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nexa_core.cli.diagnostics import ReaderGoneError
from nexa_core.visible import Substitutes, make_visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "answer",
    "draw_curtain",
    "lift_curtain",
    "print_csv",
    "print_json",
    "print_text",
    "render",
    "write_json",
]

T = TypeVar("T")

_NATURAL_WIDTH = 4_000
"""Where stdout is no terminal nothing is cut or folded: lines are as long as what they say."""
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
_ESCAPED = Substitutes(lambda character: json.dumps(character)[1:-1])


def answer(as_json: bool, value: T, show: Callable[[T], RenderableType]) -> None:
    """Print what a command found: as one JSON object, or as `show` lays it out for a person."""
    if as_json:
        print_json(value)
    else:
        render(show(value))


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    _write(write_json(value) + "\n")


def write_json(value: Any, indent: int | None = 2) -> str:
    """A value as JSON that a terminal can show: what is not seen or steers is escaped.

    Numbers that JSON has no word for (NaN, infinities) become null.
    """
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.translate(_ESCAPED)


def print_text(text: str) -> None:
    """Print a line of text."""
    _write(make_visible(text) + "\n")


def draw_curtain(lines: Iterable[str]) -> None:
    """Fill the terminal with lines while screens are loaded, which then draw over them."""
    shown = "\r\n".join(make_visible(line) for line in lines)
    _write(f"{_OTHER_SCREEN}\x1b[?25l\x1b[H\x1b[2J{shown}")
    sys.stdout.flush()


def lift_curtain() -> None:
    """Give the terminal back as it was."""
    _write(_OWN_SCREEN + "\x1b[?25h")
    sys.stdout.flush()


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV (RFC 4180) as they come: exactly what they hold, unless a terminal shows it."""
    writer = csv.writer(_Stdout(), lineterminator="\n")
    writer.writerow(map(_csv_cell, columns))
    for row in rows:
        writer.writerow(map(_csv_cell, row))


def render(renderable: RenderableType) -> None:
    """Print what rich lays out: with colours on a terminal, without them and without folding elsewhere."""
    if sys.stdout.isatty():
        _console(sys.stdout, None).print(renderable)
        return
    buffer = io.StringIO()
    _console(buffer, _NATURAL_WIDTH).print(renderable)
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    _write("\n".join(lines) + "\n")


def _console(file: Any, width: int | None) -> Console:
    from rich.console import Console

    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def _csv_cell(value: Any) -> str:
    text = "" if value is None else _text(value)
    return make_visible(text) if sys.stdout.isatty() else text


def _text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    """A value made of what JSON knows."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if callable(isoformat) else str(value)


class _Stdout:
    """Where the CSV writer writes."""

    def write(self, text: str) -> None:
        _write(text)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError as cause:
        raise ReaderGoneError from cause
