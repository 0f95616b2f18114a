"""Hashes of word sequences and of letter sequences, vectorised over the bytes of a column.

A stretch of bytes b₀…bₖ hashes to Σ (bᵢ + 1)·Bⁱ mod 2⁶⁴, read off one running sum over the whole
column (Karp and Rabin 1987), then mixed (splitmix64). Hashes are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column
from nexa_checks.scans import view_text

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15 | 1
_WORD = np.array([(chr(b).isalnum() and b < 128) or b >= 128 for b in range(256)])
_LETTER = np.array([(chr(b).isalpha() and b < 128) or b >= 128 for b in range(256)])
_BATCH_BYTES = 1 << 22
_NO_WORD = r"[^\pL\pM\pN\x{0}-\x{7f}]+"
_NO_LETTER = r"[^\pL\pM\x{0}-\x{7f}]+"
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


@dataclass(frozen=True, slots=True)
class Shingles:
    """Hashes row after row; `offsets` (rows + 1) says where each row's begin."""

    hashes: Hashes
    offsets: Indices

    @property
    def rows(self) -> Indices:
        """The row of each hash."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def hash_word_sequences(text: Array, size: int) -> Shingles:
    """Sequences of `size` words; a shorter text is one sequence, one without words has none.

    Words are runs of letters and digits, without case; in writing without spaces (Han, Kana, Thai,
    Lao, Khmer, Burmese) each character is one.
    """
    offsets, data = _view(_fold(text, spaced=True))
    starts, ends = _find_runs(offsets, _WORD[data])
    words = _mix(_hash_spans(data, starts, ends))
    counts = np.searchsorted(starts, offsets[1:]) - np.searchsorted(starts, offsets[:-1])
    first = np.concatenate([[0], np.cumsum(counts)])
    number = np.where(counts == 0, 0, np.maximum(counts - size + 1, 1))
    out = np.concatenate([[0], np.cumsum(number)])
    begin = np.arange(out[-1]) - np.repeat(out[:-1] - first[:-1], number)
    end = np.minimum(begin + size, np.repeat(first[1:], number))
    spans = np.zeros(len(begin), np.uint64)
    for step in range(size):
        at = begin + step
        some = at < end
        word = words[np.minimum(at, max(len(words) - 1, 0))] if len(words) else spans
        spans = np.where(some, _mix(spans ^ word), spans)
    return Shingles(spans, out)


def hash_letter_sequences(text: Array, size: int) -> Shingles:
    """Sequences of `size` bytes of letters alone, without case, spaces, digits and all other signs.

    A text with fewer letters has none.
    """
    offsets, data = _view(_fold(text, spaced=False))
    letters = _LETTER[data]
    kept = np.concatenate([[0], np.cumsum(letters)])[offsets]
    packed = data[letters]
    number = np.maximum(np.diff(kept) - size + 1, 0)
    out = np.concatenate([[0], np.cumsum(number)])
    begin = np.arange(out[-1]) + np.repeat(kept[:-1] - out[:-1], number)
    return Shingles(_mix(_hash_spans(packed, begin, begin + size)), out)


def batches(text: Column) -> Iterator[Array]:
    """Slices of a few megabytes, in row order."""
    for chunk in text.chunks:
        offsets, _ = view_text(chunk)
        start = 0
        while start < len(chunk):
            end = int(np.searchsorted(offsets, offsets[start] + _BATCH_BYTES, "right")) - 1
            end = min(max(end, start + 1), len(chunk))
            yield chunk.slice(start, end - start)
            start = end


def _fold(text: Array, spaced: bool) -> Array:
    """Lower case; beyond ASCII also NFKC, signs as spaces, and unseen characters taken out."""
    text = pc.fill_null(text, "")
    wide = pc.invert(pc.string_is_ascii(text))
    if not wide.true_count:
        return pc.ascii_lower(text)
    some = pc.utf8_normalize(pc.utf8_lower(text.filter(wide)), "NFKC")
    some = pc.replace_substring_regex(some, r"\p{Cf}+", "")
    some = pc.replace_substring_regex(some, _NO_WORD if spaced else _NO_LETTER, " ")
    if spaced:
        some = pc.replace_substring_regex(some, _UNSPACED, r" \1 ")
    return pc.replace_with_mask(pc.ascii_lower(text), wide, some)


def _view(text: Array) -> tuple[Indices, npt.NDArray[np.uint8]]:
    offsets, data = view_text(text)
    return offsets.astype(np.int64), data


def _find_runs(offsets: Indices, inside: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Where stretches of true bytes start and end (exclusive); none goes from one row into another."""
    edge = np.zeros(len(inside) + 1, bool)
    edge[offsets] = True
    before = np.concatenate([[False], inside[:-1]])
    after = np.concatenate([inside[1:], [False]])
    starts = np.flatnonzero(inside & (~before | edge[:-1]))
    ends = np.flatnonzero(inside & (~after | edge[1:])) + 1
    return starts, ends


def _hash_spans(data: npt.NDArray[np.uint8], starts: Indices, ends: Indices) -> Hashes:
    powers, inverses = _powers(1 << max(12, len(data).bit_length()))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[: len(data)], out=sums[1:])
    return (sums[ends] - sums[starts]) * inverses[starts]


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first `count` powers of the base and of its inverse, mod 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    found = []
    for base in (_BASE, inverse):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        found.append(np.multiply.accumulate(powers))
    return found[0], found[1]


def _mix(values: Hashes) -> Hashes:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
