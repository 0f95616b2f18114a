"""What can be asked of a column of text; null stays null."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column, as_array
from nexa_checks.scans import mask_nulls, view_text
from nexa_core import UsageError

_SEEN = np.array([0x21 <= byte <= 0x7E for byte in range(256)])
_UNSEEN = r"\A[\s\pZ\p{Cc}\p{Cf}]*\z"


def is_blank(text: Column) -> Array:
    """Where the text has nothing to be seen: white space, control and zero-width characters alone."""
    return as_array(pa.chunked_array([_is_blank(chunk) for chunk in text.chunks], pa.bool_()))


def _is_blank(chunk: Array) -> Array:
    """Only what begins with no visible character of ASCII is looked through."""
    offsets, data = view_text(chunk)
    sizes = np.diff(offsets)
    rows = np.flatnonzero(sizes)
    rows = rows[~_SEEN[data[offsets[rows]]]]
    blank = sizes == 0
    if len(rows):
        unseen = pc.match_substring_regex(chunk.take(pa.array(rows)), _UNSEEN)
        blank[rows] = pc.fill_null(unseen, False).to_numpy(zero_copy_only=False)
    return pa.array(blank, mask=mask_nulls(chunk))


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
