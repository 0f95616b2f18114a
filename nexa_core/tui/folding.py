"""Text folded into lines of a screen's width, quickly also where a line is a megabyte long."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import get_character_cell_size

from nexa_core.visible import make_visible

__all__ = ["fold_text"]

TAB = "    "
EMOJI_STYLE = "\ufe0f"


def fold_text(text: str, width: int) -> list[str]:
    """The lines of a text in `width` cells, broken at spaces where a word fits on a line by itself.

    Every character is there: those that cannot be seen as their code points, a tab as four spaces.
    """
    width = max(width, 4)
    shown = make_visible(text).replace("\t", TAB)
    return [line for part in shown.split("\n") for line in _fold_line(part, width)]


def _fold_line(line: str, width: int) -> Iterator[str]:
    """One line in pieces; each look goes no further than one width, whatever follows."""
    start, end = 0, len(line)
    narrow = line.isascii()
    while True:
        stop = min(end, start + width) if narrow else _reach(line, start, width)
        if stop == end:
            yield line[start:]
            return
        at = stop if line[stop] == " " else line.rfind(" ", start, stop)
        if at - start <= width // 3:  # a word longer than most of the line is broken
            at = stop
        yield line[start:at]
        start = at + 1 if line[at] == " " else at


def _reach(line: str, start: int, width: int) -> int:
    """Where the characters from `start` on no longer fit into `width` cells; one always does."""
    room = width
    for stop in range(start, len(line)):
        room -= _WIDTHS[line[stop]]
        if room < 0:
            return max(stop, start + 1)
    return len(line)


class _Widths(dict[str, int]):
    """Cells by character; filled as characters are met."""

    def __missing__(self, character: str) -> int:
        # The sign that asks for an emoji's colours makes the one before it a cell wider.
        self[character] = 1 if character == EMOJI_STYLE else get_character_cell_size(character)
        return self[character]


_WIDTHS = _Widths()
