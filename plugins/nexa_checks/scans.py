"""Scans of a column's UTF-8 bytes: a shard at a time, where Arrow's text kernels go row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nexa_checks.columns import Array, Column, as_array

Offsets = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


def view_text(chunk: Array) -> tuple[Offsets, Bytes]:
    """The offsets (length n + 1, from 0) and the UTF-8 bytes of a string or large_string array."""
    width = np.int64 if pt.is_large_string(chunk.type) else np.int32
    _, bounds, data = chunk.buffers()
    if len(chunk) == 0 or bounds is None:
        return np.zeros(len(chunk) + 1, width), np.zeros(0, np.uint8)
    offsets = np.frombuffer(bounds, width)[chunk.offset : chunk.offset + len(chunk) + 1]
    content = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return offsets - offsets[0], content[offsets[0] : offsets[-1]]


def count_characters(text: Column) -> Array:
    """Unicode characters per row, as integers; null where the text is."""
    kind = pa.int64() if pt.is_large_string(text.type) else pa.int32()
    return as_array(pa.chunked_array([_count_chunk(chunk, kind) for chunk in text.chunks], kind))


def find_first_bytes(chunk: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint16]]:
    """The rows of two bytes or more, and those two, the first as the high byte."""
    offsets, data = view_text(chunk)
    rows = np.flatnonzero(np.diff(offsets) > 1)
    at = offsets[rows]
    return rows, (data[at].astype(np.uint16) << 8) | data[at + 1]


def mask_nulls(chunk: Array) -> npt.NDArray[np.bool_] | None:
    """Where an array is null; None where it is nowhere."""
    return chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count else None


def _count_chunk(chunk: Array, kind: pa.DataType) -> Array:
    offsets, data = view_text(chunk)
    signed = data.view(np.int8)
    if not len(data) or signed.min() >= 0:
        return pc.binary_length(chunk)
    inner = np.flatnonzero(signed < -64)  # bytes of a character after its first one
    sizes = np.diff(offsets) - np.diff(np.searchsorted(inner, offsets))
    return pa.array(sizes, kind, mask=mask_nulls(chunk))
