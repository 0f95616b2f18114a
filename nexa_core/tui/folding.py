"""Text folded into lines of a screen's width, quickly also where a line is a megabyte long."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate

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
    reach = _measure(line, width)
    while True:
        stop = reach(start)
        if stop >= end:
            yield line[start:]
            return
        at = stop if line[stop] == " " else line.rfind(" ", start, stop)
        if at - start <= width // 3:  # a word longer than most of the line is broken
            at = stop
        yield line[start:at]
        start = at + 1 if line[at] == " " else at


def _measure(line: str, width: int) -> Callable[[int], int]:
    """Where the characters from a place on no longer fit into `width` cells; one always does."""
    kinds = {1} if line.isascii() else {_WIDTHS[each] for each in set(line)}
    if kinds <= {1} or kinds == {2}:
        step = max(1, width // max(kinds, default=1))
        return lambda start: start + step
    before = array("Q", accumulate(map(_WIDTHS.__getitem__, line), initial=0))
    return lambda start: max(bisect_right(before, before[start] + width, start) - 1, start + 1)


class _Widths(dict[str, int]):
    """Cells by character; filled as characters are met."""

    def __missing__(self, character: str) -> int:
        # The sign that asks for an emoji's colours makes the one before it a cell wider.
        self[character] = 1 if character == EMOJI_STYLE else get_character_cell_size(character)
        return self[character]


_WIDTHS = _Widths()
