"""The check of repetition: how much of a text it has said before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.shingles import (
    Shingles,
    batches,
    count_distinct,
    hash_token_sequences,
    hash_tokens_and_lines,
)
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import RepetitionOptions


class Repetition:
    """Fails a text in which too large a share of the word sequences, or of the lines, occurred before.

    The score is distinct-n (Li et al. 2016, arXiv:1510.03055) of the one text: distinct sequences
    of `words` words over all of them; 1 where the text is too short to hold two. Words are what white
    space parts; in writing without spaces each character is one.
    """

    def __init__(self, options: RepetitionOptions) -> None:
        self.field = require_option(options.field, "field", "check 'repetition'")
        self.words, self.max_share = options.words, options.max_share
        self.max_line_share = options.max_line_share

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, "check 'repetition'"))
        values, distinct_lines = measure_repetition(text, self.words)
        repeated = pc.subtract(1.0, values)
        failed = pc.greater(repeated, self.max_share)
        lines = pc.subtract(1.0, distinct_lines)
        looping = pc.greater(lines, self.max_line_share)
        reasons = explain(looping, lambda: _say(lines.filter(looping), "lines"))
        said = f"{self.words}-word sequences"
        reasons = explain(failed, lambda: _say(repeated.filter(failed), said), reasons)
        return ScoreColumns(values, pc.or_(failed, looping), reasons)


def share_distinct(text: Array, size: int) -> Array:
    """Distinct sequences of `size` words over all, per text; 1 where there is none, null with it."""
    parts = [
        _share(hash_token_sequences(batch, size)) for batch in batches(pa.chunked_array([text]))
    ]
    return _join(parts, text)


def measure_repetition(text: Array, size: int) -> tuple[Array, Array]:
    """`share_distinct`, and the same of lines with something on them."""
    both = [hash_tokens_and_lines(batch, size) for batch in batches(pa.chunked_array([text]))]
    return _join([_share(each) for each, _ in both], text), _join(
        [_share(each) for _, each in both], text
    )


def _share(found: Shingles) -> npt.NDArray[np.float64]:
    total = np.diff(found.offsets)
    return np.where(total > 0, count_distinct(found) / np.maximum(total, 1), 1.0)


def _join(parts: Sequence[npt.NDArray[np.float64]], text: Array) -> Array:
    shares = np.concatenate([np.zeros(0), *parts])
    return pa.array(shares, mask=text.is_null().to_numpy(zero_copy_only=False))


def _say(repeated: Array, what: str) -> Array:
    percent = pc.round(pc.multiply(repeated, 100)).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(percent, f" % of its {what} repeat", "")
