"""The check of repetition: how much of a text it has said before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import RepetitionOptions

_BATCH = 8192
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Repetition:
    """Fails a text in which too large a share of the word sequences, or of the lines, occurred before.

    The score is distinct-n (Li et al. 2016, arXiv:1510.03055) of the one text: distinct sequences
    of `words` words over all of them; 1 where the text is too short to hold two.
    """

    def __init__(self, options: RepetitionOptions) -> None:
        self.field = require_option(options.field, "field", "check 'repetition'")
        self.words, self.max_share = options.words, options.max_share
        self.max_line_share = options.max_line_share

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, "check 'repetition'"))
        values = share_distinct(text, self.words)
        repeated = pc.subtract(1.0, values)
        failed = pc.greater(repeated, self.max_share)
        lines = pc.subtract(1.0, share_distinct_lines(text))
        looping = pc.greater(lines, self.max_line_share)
        reasons = explain(looping, lambda: _say(lines.filter(looping), "lines"))
        said = f"{self.words}-word sequences"
        reasons = explain(failed, lambda: _say(repeated.filter(failed), said), reasons)
        return ScoreColumns(values, pc.or_(failed, looping), reasons)


def share_distinct(text: Array, size: int) -> Array:
    """Distinct sequences of `size` words over all, per text; 1 where there is none, null with it."""
    return _in_batches(text, pc.utf8_split_whitespace, size)


def share_distinct_lines(text: Array) -> Array:
    """Distinct lines over all lines with something on them, per text."""
    return _in_batches(text, lambda batch: pc.split_pattern_regex(batch, r"\s*\n\s*"), 1)


def _in_batches(text: Array, split: Callable[[Array], Array], size: int) -> Array:
    parts = [_share(text.slice(at, _BATCH), split, size) for at in range(0, len(text), _BATCH)]
    return pa.concat_arrays(parts) if parts else pa.array([], pa.float64())


def _share(text: Array, split: Callable[[Array], Array], size: int) -> Array:
    parts = split(pc.utf8_trim_whitespace(pc.fill_null(text, "")))
    codes = pc.list_flatten(parts).dictionary_encode().indices.to_numpy().astype(np.uint64)
    counts = pc.list_value_length(parts).to_numpy().astype(np.int64)
    distinct, total = _count_sequences(codes, counts, size)
    share = np.where(total > 0, distinct / np.maximum(total, 1), 1.0)
    return pa.array(share, mask=text.is_null().to_numpy(zero_copy_only=False))


def _say(repeated: Array, what: str) -> Array:
    percent = pc.round(pc.multiply(repeated, 100)).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(percent, f" % of its {what} repeat", "")


def _count_sequences(
    codes: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct and all sequences of `size` words per row, for rows of `counts` words in order.

    Sequences are compared by a 64-bit mix of their words and row: two different ones of a row meet
    with a chance of about words² / 2^65.
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    last = max(len(codes) - size + 1, 0)
    whole = rows[:last] == rows[size - 1 : size - 1 + last]
    keys = np.zeros(last, np.uint64)
    for step in range(size):
        keys = (keys ^ codes[step : step + last]) * _MIX
        keys ^= keys >> np.uint64(29)
    home = rows[:last][whole]
    order = np.lexsort((keys[whole], home))
    ordered, homes = keys[whole][order], home[order]
    fresh = np.ones(len(ordered), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]) | (homes[1:] != homes[:-1])
    size_of = len(counts)
    return np.bincount(homes[fresh], minlength=size_of), np.bincount(homes, minlength=size_of)
