"""Rows as they are made: a line each, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from nexa_core.actions.watching import Progress
from nexa_core.tui.ink import BLANK, ink, style_of
from nexa_core.visible import fold_visible

__all__ = ["draw_samples"]

DIM = "$foreground 60%"


def draw_samples(progress: Progress, room: int) -> list[Content]:
    """The newest rows in `room` lines, the title among them."""
    if room < 3 or not progress.samples:
        return []
    shown = list(progress.samples)[-(room - 2) :]
    title = ink(("Rows ", "bold"), ("as they are made", DIM))
    drawn = [_sample(row, progress.outline.texts) for row in reversed(shown)]
    return [BLANK, title, *drawn]


def _sample(row: Mapping[str, Any], columns: Sequence[str]) -> Content:
    state = str(row.get("state") or "")
    marks = {"accepted": "✓", "rejected": "✗", "failed": "!"}
    reason = f"{row['reason']}  " if row.get("reason") else ""
    shown = columns if len(columns) > 1 else [*_first_text(row, columns), *columns]
    texts = [" ".join(str(row[name]).split()) for name in shown if row.get(name)]
    mark = (f"{marks.get(state, '·')} ", style_of(state))
    parts: list[object] = [mark, (reason, DIM)]
    for at, text in enumerate(texts):
        parts += [("  →  ", DIM) if at else "", fold_visible(text, 120)]
    return ink(*parts)


def _first_text(row: Mapping[str, Any], written: Sequence[str]) -> list[str]:
    """The source's first text, so that an answer does not stand without its question."""
    found = [name for name, value in row.items() if isinstance(value, str) and name not in _FACTS]
    return [name for name in found if not name.startswith(tuple(written))][:1]


_FACTS = {"id", "source_id", "parent_id", "state", "reason", "unit"}
