"""Counts words: stretches of text between white space (Unicode's).

Languages written without spaces have few such words; where that matters, count tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column
from nexa_checks.scans import view_text

_SPACE = np.array([chr(byte).isspace() and byte < 128 for byte in range(256)])


def count_words(text: Column) -> Column:
    """Words per row as int32; null where the text is."""
    return pa.chunked_array([_count_chunk(chunk) for chunk in text.chunks], pa.int32())


def _count_chunk(chunk: Array) -> Array:
    counts = _count_ascii(chunk)
    valid = chunk.is_valid()
    wide = pc.fill_null(pc.invert(pc.string_is_ascii(chunk)), False)
    if wide.true_count:
        counts[wide.to_numpy(zero_copy_only=False)] = _count_unicode(chunk.filter(wide))
    return pc.if_else(valid, pa.array(counts), pa.scalar(None, pa.int32()))


def _count_ascii(chunk: Array) -> npt.NDArray[np.int32]:
    """Words between ASCII white space: one starts at each other byte after a space or row start."""
    offsets, data = view_text(chunk)
    counts = np.zeros(len(chunk), np.int32)
    rows = np.flatnonzero(offsets[1:] > offsets[:-1])
    if len(rows):
        space = _SPACE[data]
        starts = ~space
        starts[1:] &= space[:-1]
        firsts = offsets[rows]
        starts[firsts] = ~space[firsts]
        counts[rows] = np.add.reduceat(starts, firsts, dtype=np.int32)
    return counts


def _count_unicode(chunk: Array) -> npt.NDArray[np.int32]:
    trimmed = pc.utf8_trim_whitespace(chunk)
    words = pc.list_value_length(pc.utf8_split_whitespace(trimmed))
    blank = pc.equal(pc.binary_length(trimmed), 0)
    return pc.if_else(blank, 0, words).cast(pa.int32()).to_numpy(zero_copy_only=False)
