"""Numbers as the report writes them: counts, shares, money, times, p-values."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

__all__ = [
    "read_time",
    "show_count",
    "show_money",
    "show_number",
    "show_p",
    "show_points",
    "show_range",
    "show_seconds",
    "show_share",
    "show_time",
    "show_value",
]

DASH = "–"
SPACE = "\u00a0"
"""Keeps a number and its unit on one line."""
NANO = 1_000_000_000


def show_count(number: float | None) -> str:
    """A count with thousands set apart: `12,000`."""
    return DASH if number is None else f"{number:,.0f}"


def show_share(share: float | None) -> str:
    """A share as a percentage with up to three digits: 0.1267 is `12.7 %`."""
    return DASH if share is None else f"{100 * share:.3g}{SPACE}%"


def show_range(low: float, high: float) -> str:
    """Two shares as a range: `5.19 to 24 %`."""
    return f"{100 * low:.3g} to {show_share(high)}"


def show_points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: `+43.0`."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def show_money(nano: float | None) -> str:
    """Nano-dollars as dollars: cents where they say enough, else three digits."""
    if nano is None:
        return DASH
    usd = nano / NANO
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    digits = max(2, 2 - math.floor(math.log10(abs(usd))))
    whole, _, rest = f"{usd:.{min(digits, 9)}f}".partition(".")
    return f"${whole}.{rest.rstrip('0').ljust(2, '0')}"


def show_seconds(seconds: float | None) -> str:
    """A duration in the units a person would use: `0.6 s`, `21 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def show_p(p: float) -> str:
    """A p-value: three digits, and powers of ten below a thousandth."""
    if p >= 0.001:
        return f"{p:.3f}"
    if p <= 0:
        return "< 10⁻³⁰⁰"
    power = math.floor(math.log10(p))
    figure = f"{p / 10.0**power:.1f}" if power > -300 else "1"
    return f"{figure}{SPACE}×{SPACE}10{str(power).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def show_number(value: float) -> str:
    """A number with up to four digits."""
    return f"{value:.4g}"


def show_value(value: Any) -> str:
    """A parameter's value: numbers as they were set, all else as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def show_time(at: str | None) -> str:
    """An ISO 8601 time as `2026-11-21 04:12 UTC`; what is no time as it is."""
    found = read_time(at)
    return (at or DASH) if found is None else f"{found:%Y-%m-%d %H:%M} UTC"


def read_time(at: Any) -> datetime | None:
    """The time that an event or record holds, None where it holds none."""
    try:
        return datetime.fromisoformat(at)
    except (TypeError, ValueError):
        return None
