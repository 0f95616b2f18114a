"""Text of models and files as a reader must see it: nothing hidden, nothing that turns or moves text."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup, escape

__all__ = ["make_visible", "mark_visible"]

_KEPT = frozenset("\n\t")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that print nothing."""
_SELECTORS = range(0xE0000, 0xE1000)


def make_visible(text: str) -> str:
    """The text with every character that cannot be seen written as `‹U+202E›`.

    These are control and format characters (bidi overrides, zero widths, escapes), lone
    surrogates, private and unassigned characters, line and paragraph separators, blank letters.
    Line feeds, tabs and spaces stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_seen(c) else f"‹{_name(c)}›" for c in text)


def mark_visible(text: str) -> Markup:
    """As `make_visible`, as HTML in which the written code points stand out."""
    parts: list[Markup] = []
    start = 0
    for index, character in enumerate(text):
        if _is_seen(character):
            continue
        parts.append(escape(text[start:index]))
        parts.append(Markup('<span class="unseen">{}</span>').format(_name(character)))
        start = index + 1
    parts.append(escape(text[start:]))
    return Markup("").join(parts)


def _is_seen(character: str) -> bool:
    if character in _KEPT:
        return True
    if character in _BLANK or ord(character) in _SELECTORS:
        return False
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _name(character: str) -> str:
    return f"U+{ord(character):04X}"
