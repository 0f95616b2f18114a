"""Diversity: what share of a text's word sequences is distinct, and new to the set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.repetition import share_distinct
from nexa_checks.shingles import batches, hash_word_sequences
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import DistinctOptions, DiversityOptions

ASKER = "check 'diversity'"
_SLOTS = 1 << 27


class Diversity:
    """Scores a row by the share of its word sequences that no earlier row had.

    What was seen is kept as one bit per hash in 16 MB, whatever the number of rows; once that is
    a tenth full (13 million different sequences), one in ten new ones is taken for known.
    """

    def __init__(self, options: DiversityOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        self.words, self.least = options.words, options.min_new

    def start(self) -> npt.NDArray[np.uint8]:
        return np.zeros(_SLOTS // 8, np.uint8)

    def fold(
        self, state: npt.NDArray[np.uint8], table: pa.Table
    ) -> tuple[npt.NDArray[np.uint8], ScoreColumns]:
        text = read_text(table, self.field, ASKER)
        parts = [self._add(state, batch) for batch in batches(text)]
        share = np.concatenate(parts) if parts else np.zeros(0)
        values = pa.array(share, mask=np.isnan(share))
        failed = pc.less(values, self.least)
        return state, ScoreColumns(
            values, failed, explain(failed, lambda: _say(values.filter(failed)))
        )

    def _add(self, state: npt.NDArray[np.uint8], text: Array) -> npt.NDArray[np.float64]:
        """The share of new sequences per row; the bits of all of them are set in `state`."""
        shingles = hash_word_sequences(text, self.words)
        slots = (shingles.hashes & np.uint64(_SLOTS - 1)).astype(np.int64)
        bits = (np.uint8(1) << (slots & 7).astype(np.uint8)).astype(np.uint8)
        fresh = (state[slots >> 3] & bits) == 0
        _, first = np.unique(slots, return_index=True)
        earliest = np.zeros(len(slots), bool)
        earliest[first] = True
        np.bitwise_or.at(state, slots >> 3, bits)
        total = np.diff(shingles.offsets)
        new = np.bincount(shingles.rows[fresh & earliest], minlength=len(text))
        return np.where(total > 0, new / np.maximum(total, 1), np.nan)


class DistinctN:
    """Distinct-n (Li et al. 2016, arXiv:1510.03055) of each answer."""

    def __init__(self, options: DistinctOptions) -> None:
        self.field = require_option(options.field, "field", "metric 'distinct_n'")
        self.words = options.words

    def outcomes(self, table: pa.Table) -> Array:
        from nexa_checks.metrics import inside_gate

        text = as_array(read_text(table, self.field, "metric 'distinct_n'"))
        return inside_gate(table, share_distinct(text, self.words))


def _say(shares: Array) -> Array:
    percent = pc.round(pc.multiply(shares, 100)).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise("only", percent, "% of its word sequences are new", " ")
