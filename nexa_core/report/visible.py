"""Text as HTML in which what cannot be seen stands out."""

from __future__ import annotations

from markupsafe import Markup, escape

from nexa_core.visible import is_seen, name_unseen

__all__ = ["mark_visible"]


def mark_visible(text: str) -> Markup:
    """As `make_visible`, as HTML in which the written code points stand out."""
    unseen = {character for character in set(text) if not is_seen(character)}
    if not unseen:
        return escape(text)
    parts: list[Markup] = []
    start = 0
    for index, character in enumerate(text):
        if character not in unseen:
            continue
        parts.append(escape(text[start:index]))
        parts.append(Markup('<span class="unseen">{}</span>').format(name_unseen(character)))
        start = index + 1
    parts.append(escape(text[start:]))
    return Markup("").join(parts)
