"""What can be asked of a column of text, each with one Arrow kernel; null stays null."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Column
from nexa_core import UsageError


def is_blank(text: Column) -> Column:
    """Where the text has no character but white space (Unicode's)."""
    return pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))


def require_pattern(pattern: str, asker: str) -> None:
    """Refuse a pattern that RE2 cannot read, before any row is paid for.

    Raises:
        UsageError: With RE2's own words.
    """
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as cause:
        raise UsageError(
            f"The {asker} cannot use the pattern '{pattern}': {cause}.",
            "Write it in RE2's syntax: no look-around, no back-references.",
        ) from cause


def equals(text: Column, value: str) -> Column:
    """Where the text is exactly `value`."""
    return pc.equal(text, pa.scalar(value, text.type))
