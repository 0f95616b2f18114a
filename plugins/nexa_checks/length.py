"""The check of length, in characters and in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from operator import gt, lt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import (
    Array,
    Column,
    as_array,
    read_text,
    read_tokens,
    require_option,
)
from nexa_checks.scans import count_characters
from nexa_checks.verdicts import explain
from nexa_checks.words import count_words
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import LengthOptions

_BEYOND = {"min": (lt, "of at least"), "max": (gt, "of at most")}
Sizes = npt.NDArray[np.float64]


class Length:
    """Fails a text outside its bounds; tokens are the model's count, words where there is none."""

    def __init__(self, options: LengthOptions, asker: str = "check 'length'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.tokens_field = options.tokens_field
        self.bounds = options.bounds

    def score(self, table: pa.Table) -> ScoreColumns:
        sizes = self._measure(table)
        values, _ = sizes.get("tokens") or sizes["chars"]
        failed = np.zeros(len(values), bool)
        known = np.ones(len(values), bool)
        for unit, end, limit in self.bounds:
            failed |= _BEYOND[end][0](sizes[unit][0], limit)
            known &= ~np.isnan(sizes[unit][0])
        # Whatever one unit cannot tell, a bound that is broken is broken.
        verdict = pa.array(failed, mask=~(failed | known))
        reasons = explain(verdict, lambda: self._explain(sizes, np.flatnonzero(failed)))
        return ScoreColumns(pa.array(values, from_pandas=True), verdict, reasons)

    def _measure(self, table: pa.Table) -> dict[str, tuple[Sizes, str]]:
        """Each bounded unit's size per row, NaN where it is unknown, and the word for it."""
        units = {unit for unit, _, _ in self.bounds}
        text = read_text(table, self.field, self.asker)
        sizes = {}
        if "chars" in units:
            sizes["chars"] = (_as_floats(count_characters(text)), "characters")
        if "tokens" in units:
            size, word = measure_tokens(table, text, self.tokens_field, self.asker)
            sizes["tokens"] = (_as_floats(as_array(size)), word)
        return sizes

    def _explain(self, sizes: Mapping[str, tuple[Sizes, str]], rows: npt.NDArray[np.intp]) -> Array:
        """For each failed row, the first bound it breaks, in the order of `bounds`."""
        found = {unit: size[rows].tolist() for unit, (size, _) in sizes.items()}
        said = [
            (found[unit], _BEYOND[end], limit, sizes[unit][1]) for unit, end, limit in self.bounds
        ]
        return pa.array(
            [
                next(
                    f"{size[at]:.0f} {words} {limit} {unit}"
                    for size, (breaks, words), limit, unit in said
                    if breaks(size[at], limit)
                )
                for at in range(len(rows))
            ],
            pa.string(),
        )


def _as_floats(sizes: Array) -> Sizes:
    return sizes.to_numpy(zero_copy_only=False).astype(np.float64)


def measure_tokens(
    table: pa.Table, text: Column, tokens_field: str | None, asker: str
) -> tuple[Column, str]:
    """Tokens per row and the word for them: "tokens" as the model counted, else "words".

    Null where the text is.
    """
    tokens = read_tokens(table, tokens_field, asker)
    if tokens is None:
        return count_words(text), "words"
    return pc.if_else(text.is_valid(), tokens, pa.scalar(None, tokens.type)), "tokens"
