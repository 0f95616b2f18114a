"""Hashes of word sequences and of letter sequences, vectorised over the bytes of a column.

A stretch of bytes b₀…bₖ hashes to Σ (bᵢ + 1)·Bⁱ mod 2⁶⁴, read off one running sum over the whole
column (Karp and Rabin 1987), then mixed (splitmix64). Hashes are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column
from nexa_checks.scans import view_text

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15 | 1
_BASE_64 = np.uint64(_BASE)
_WORD = np.array([(chr(b).isalnum() and b < 128) or b >= 128 for b in range(256)])
_LETTER = np.array([(chr(b).isalpha() and b < 128) or b >= 128 for b in range(256)])
_SPACE = np.array([chr(b).isspace() and b < 128 for b in range(256)])
_NEWLINE = ord("\n")
_BATCH_BYTES = 1 << 20
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
    counts = _count_within(starts, offsets)
    number = np.where(counts == 0, 0, np.maximum(counts - size + 1, 1))
    return _join(_mix(_hash_spans(_sum_up(data), starts, ends)), counts, number, size)


def hash_token_sequences(text: Array, size: int) -> Shingles:
    """Sequences of `size` tokens, which white space parts and nothing else; a shorter text has none.

    In writing without spaces each character is a token, as in `hash_word_sequences`.
    """
    offsets, data = _view(_part_tokens(text))
    return _hash_tokens(offsets, data, _sum_up(data), size)


def hash_tokens_and_lines(text: Array, size: int) -> tuple[Shingles, Shingles]:
    """`hash_token_sequences`, and the lines with something on them, without white space around."""
    offsets, data = _view(_part_tokens(text))
    sums = _sum_up(data)
    return _hash_tokens(offsets, data, sums, size), _hash_lines(offsets, data, sums)


def count_distinct(shingles: Shingles) -> Indices:
    """How many of each row's hashes differ.

    They are compared by their upper 64 − log₂(rows) bits, sorted with the row in front.
    """
    rows = len(shingles.offsets) - 1
    bits = np.uint64(max(1, (max(rows, 1) - 1).bit_length()))
    keys = (shingles.rows.astype(np.uint64) << (np.uint64(64) - bits)) | (shingles.hashes >> bits)
    keys.sort()
    fresh = np.ones(len(keys), bool)
    fresh[1:] = keys[1:] != keys[:-1]
    homes = (keys[fresh] >> (np.uint64(64) - bits)).astype(np.int64)
    return np.bincount(homes, minlength=rows)


def hash_letter_views(text: Array, size: int, words: Hashes) -> tuple[Shingles, Shingles]:
    """Sequences of `size` bytes of letters alone, without case, spaces, digits and all other signs; and
    the same without single letters and the `words` of `hash_words`.

    A text with fewer letters has none. These hashes are not mixed: their lower bits follow the letters'.
    """
    offsets, data = _view(_fold(text, spaced=False))
    letters = _LETTER[data]
    starts, ends = _find_runs(offsets, letters)
    found = _hash_spans(_sum_up(data), starts, ends)
    place = np.minimum(np.searchsorted(words, found), len(words) - 1)
    dropped = (words[place] == found) | (ends - starts == 1)
    edge = np.zeros(len(data) + 1, np.int8)
    edge[starts[dropped]] = 1
    edge[ends[dropped]] -= 1
    bare = letters & ~np.cumsum(edge[:-1], dtype=np.int8).view(bool)
    every, some = (_hash_letters(offsets, data, kept, size) for kept in (letters, bare))
    return every, some


def hash_words(words: Sequence[str]) -> Hashes:
    """The hashes of words in lower case, sorted, for `hash_letter_views`."""
    offsets, data = _view(pa.array(words, pa.string()))
    return np.unique(_hash_spans(_sum_up(data), offsets[:-1], offsets[1:]))


def _hash_letters(
    offsets: Indices, data: npt.NDArray[np.uint8], letters: npt.NDArray[np.bool_], size: int
) -> Shingles:
    kept = np.concatenate([[0], np.cumsum(letters)])[offsets]
    number = np.maximum(np.diff(kept) - size + 1, 0)
    out = np.concatenate([[0], np.cumsum(number)])
    if not out[-1]:
        return Shingles(np.zeros(0, np.uint64), out)
    sums = _sum_up(data[letters])
    _, inverses = _find_powers(len(sums))
    every = sums[size:] - sums[:-size]
    every *= inverses[: len(every)]
    # What begins in one row and ends in another is none.
    inside = np.zeros(len(every) + 1, np.int8)
    np.add.at(inside, kept[:-1][number > 0], 1)
    np.add.at(inside, (kept[:-1] + number)[number > 0], -1)
    return Shingles(every[np.cumsum(inside[:-1], dtype=np.int8).view(bool)], out)


def batches(text: Column) -> Iterator[Array]:
    """Slices of about a megabyte, in row order: larger ones leave the cache, and take memory for powers."""
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


def _part_tokens(text: Array) -> Array:
    """Unicode's white space as spaces, and spaces around the characters of writing without them."""
    text = pc.fill_null(text, "")
    wide = pc.invert(pc.string_is_ascii(text))
    if not wide.true_count:
        return text
    some = pc.replace_substring_regex(text.filter(wide), r"[\pZ\x{85}]", " ")
    some = pc.replace_substring_regex(some, _UNSPACED, r" \1 ")
    return pc.replace_with_mask(text, wide, some)


def _hash_tokens(
    offsets: Indices, data: npt.NDArray[np.uint8], sums: Hashes, size: int
) -> Shingles:
    starts, ends = _find_runs(offsets, ~_SPACE[data])
    counts = _count_within(starts, offsets)
    number = np.maximum(counts - size + 1, 0)
    words = _mix(_hash_spans(sums, starts, ends))
    out = np.concatenate([[0], np.cumsum(number)])
    begin = np.arange(out[-1]) + np.repeat(np.cumsum(counts) - counts - out[:-1], number)
    spans = words[begin]
    for step in range(1, size):
        spans = spans * _BASE_64 + words[begin + step]
    return Shingles(spans, out)


def _hash_lines(offsets: Indices, data: npt.NDArray[np.uint8], sums: Hashes) -> Shingles:
    starts, ends = _find_runs(offsets, data != _NEWLINE)
    seen = np.flatnonzero(~_SPACE[data])
    first, last = np.searchsorted(seen, starts), np.searchsorted(seen, ends) - 1
    some = first <= last
    starts, ends = seen[first[some]], seen[last[some]] + 1
    counts = _count_within(starts, offsets)
    out = np.concatenate([[0], np.cumsum(counts)])
    return Shingles(_mix(_hash_spans(sums, starts, ends)), out)


def _count_within(starts: Indices, offsets: Indices) -> Indices:
    """How many of the starts lie in each row."""
    counts: Indices = np.searchsorted(starts, offsets[1:]) - np.searchsorted(starts, offsets[:-1])
    return counts


def _join(words: Hashes, counts: Indices, number: Indices, size: int) -> Shingles:
    """From each row's words (`counts` of them) to `number` sequences of `size`."""
    first = np.concatenate([[0], np.cumsum(counts)])
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


def _sum_up(data: npt.NDArray[np.uint8]) -> Hashes:
    """The running sum of (byte + 1)·Bⁱ, from 0."""
    powers, _ = _find_powers(len(data))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[: len(data)], out=sums[1:])
    return sums


def _hash_spans(sums: Hashes, starts: Indices, ends: Indices) -> Hashes:
    _, inverses = _find_powers(len(sums))
    return (sums[ends] - sums[starts]) * inverses[starts]


def _find_powers(count: int) -> tuple[Hashes, Hashes]:
    """At least `count` powers of the base and of its inverse, mod 2^64; the longest so far are kept."""
    found = _POWERS[-1]
    if len(found[0]) < count:
        found = _raise_powers(1 << max(12, count.bit_length()))
        _POWERS[:] = [found]
    return found


def _raise_powers(count: int) -> tuple[Hashes, Hashes]:
    found = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        found.append(np.multiply.accumulate(powers))
    return found[0], found[1]


_POWERS = [_raise_powers(1)]


def _mix(values: Hashes) -> Hashes:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
