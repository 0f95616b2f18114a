"""Scans of a column's UTF-8 bytes: a shard at a time, where Arrow's text kernels go row by row."""

from __future__ import annotations

from collections.abc import Sequence
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


class Literals:
    """Texts to look for, all at once.

    Each is looked for by its rarest byte, as ripgrep does: one comparison of all bytes with it,
    then the whole literal where it was met. Literals with the same rarest byte share that pass.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.count = len(texts)
        self._anchors: dict[int, list[tuple[int, int, bytes]]] = {}
        for place, text in enumerate(texts):
            literal = text.encode(errors="surrogatepass")
            at = max(range(len(literal)), key=lambda at: _rate_rarity(literal[at]))
            self._anchors.setdefault(literal[at], []).append((place, at, literal))

    def find(self, text: Column) -> Array:
        """The place in the list of the first listed literal that a text holds, as int32.

        `count` where it holds none, null where the text is.
        """
        return as_array(pa.chunked_array([self._find(chunk) for chunk in text.chunks], pa.int32()))

    def _find(self, chunk: Array) -> Array:
        offsets, data = view_text(chunk)
        found = np.full(len(chunk), self.count, np.int32)
        for anchor, literals in self._anchors.items():
            hits = np.flatnonzero(data == anchor)
            for place, at, literal in literals:
                rows = _find_rows(hits - at, literal, offsets, data)
                found[rows] = np.minimum(found[rows], place)
        return pa.array(found, mask=mask_nulls(chunk))


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


def _find_rows(
    starts: npt.NDArray[np.intp], literal: bytes, offsets: Offsets, data: Bytes
) -> npt.NDArray[np.intp]:
    """The rows in which the literal stands at one of `starts`; once per time it does."""
    size = len(literal)
    starts = starts[(starts >= 0) & (starts <= len(data) - size)]
    if not len(starts):
        return starts
    windows: Any = np.ndarray(len(data) - size + 1, f"S{size}", data, strides=(1,))
    starts = starts[windows[starts] == literal]
    rows = np.searchsorted(offsets, starts, "right") - 1
    return rows[starts + size <= offsets[rows + 1]]


def _rate_rarity(byte: int) -> tuple[int, int]:
    """How seldom a byte occurs in texts, roughly; equal bytes are equally rare in all literals."""
    sign = chr(byte)
    if sign == " ":
        return 0, byte
    if sign.islower() or byte >= 128:
        return 1, byte
    return (2 if sign.isalnum() or sign.isspace() else 3), byte
