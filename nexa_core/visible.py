"""Text of models, files and people as a reader must see it: nothing hidden, nothing that steers a terminal.

The only sanitiser there is: the command line, the screens, reports and records all write through it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

__all__ = ["Substitutes", "fold_visible", "is_seen", "make_visible", "name_unseen"]

_KEPT = frozenset("\n\t")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that print nothing."""
_SELECTORS = (range(0xFE00, 0xFE0E), range(0xE0000, 0xE1000))
"""Variation selectors that choose no emoji's style, tags: they can carry hidden text."""


def make_visible(text: object) -> str:
    """The text with every character that cannot be seen written as `‹U+202E›`.

    These are control and format characters (escapes, bidi overrides, zero widths), lone surrogates,
    private and unassigned characters, line and paragraph separators, blank letters. What an escape
    would have introduced is then plain text. Line feeds, tabs and spaces stay; twice is as once.
    """
    shown = text if isinstance(text, str) else str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return _SHOWN.replace_in(shown)


def fold_visible(text: object, most: int = 500) -> str:
    """Text for one line: its line feeds shown as ⏎, tabs as spaces, and no more than `most` characters.

    Only the beginning is looked at, so that a line of a megabyte costs no more than a short one.
    """
    raw = text if isinstance(text, str) else str(text)
    shown = make_visible(raw[: most + 1].replace("\n", "⏎").replace("\t", " "))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def is_seen(character: str) -> bool:
    """Whether a character shows as itself."""
    if character in _KEPT:
        return True
    if character in _BLANK or any(ord(character) in codes for codes in _SELECTORS):
        return False
    return character.isprintable() or unicodedata.category(character) == "Zs"


def name_unseen(character: str) -> str:
    """The code point of a character: U+202E."""
    return f"U+{ord(character):04X}"


_FEW = 24
"""So many kinds of characters are replaced one after the other sooner than all in one pass."""


class Substitutes(dict[int, str]):
    """What is written for each code point; filled as code points are met."""

    def __init__(self, substitute: Callable[[str], str]) -> None:
        super().__init__()
        self._substitute = substitute

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if is_seen(character) else self._substitute(character)
        return self[code]

    def replace_in(self, text: str) -> str:
        """The text with the substitutes in it; asks once per kind of character, not per character."""
        changed = [each for each in set(text) if self[ord(each)] != each]
        if len(changed) > _FEW:
            return text.translate(self)
        for each in changed:
            text = text.replace(each, self[ord(each)])
        return text


_SHOWN = Substitutes(lambda character: f"‹{name_unseen(character)}›")
