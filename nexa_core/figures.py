"""Numbers as people read them: counts, shares, money, spans of time."""

from __future__ import annotations

import math
from datetime import UTC, datetime

__all__ = [
    "show_age",
    "show_bytes",
    "show_count",
    "show_many",
    "show_number",
    "show_percent",
    "show_share",
    "show_span",
    "show_usd",
]


def show_count(number: float) -> str:
    """A count with commas: 12,345."""
    return f"{number:,.0f}"


def show_many(number: int, noun: str) -> str:
    """A count with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_number(value: object) -> str:
    """A parameter's value in few digits: 0.30000000000000004 is 0.3."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def show_share(share: float) -> str:
    """A share as a percentage with one decimal: 12.7 %."""
    return f"{100 * share:.1f} %"


def show_percent(share: float) -> str:
    """A share as a person would write it down: 5 %, 12.5 %."""
    return f"{100 * share:.3g} %"


def show_usd(usd: float) -> str:
    """Dollars; below ten cents with as many decimals as two digits of the amount need."""
    if usd <= 0 or usd >= 0.1:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def show_span(seconds: float) -> str:
    """A span of time: 0.4 s, 12 s, 1:35, 2:04:11, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 86400} d {whole // 3600 % 24} h"


def show_age(at: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 time was: "3 min ago"."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at or "")).total_seconds()
    except (ValueError, TypeError):
        return "at an unknown time"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def show_bytes(size: float) -> str:
    """A size in decimal units: 3.2 GB."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"
