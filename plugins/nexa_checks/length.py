"""The check of length, in characters and in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from nexa_core import ScoreColumns

from nexa_checks.columns import (
    Array,
    Column,
    as_array,
    read_text,
    read_tokens,
    require_option,
)
from nexa_checks.verdicts import explain
from nexa_checks.words import count_words

if TYPE_CHECKING:
    from nexa_checks.options import LengthOptions

_BEYOND = {"min": (pc.less, "of at least"), "max": (pc.greater, "of at most")}


class Length:
    """Fails a text outside its bounds; tokens are the model's count, words where there is none."""

    def __init__(self, options: LengthOptions) -> None:
        self.field = require_option(options.field, "field", "check 'length'")
        self.tokens_field = options.tokens_field
        self.bounds = options.bounds

    def score(self, table: pa.Table) -> ScoreColumns:
        sizes = self._measure(table)
        values, _ = sizes.get("tokens") or sizes["chars"]
        beyond = [_BEYOND[end][0](sizes[unit][0], limit) for unit, end, limit in self.bounds]
        failed = beyond[0]
        for more in beyond[1:]:
            failed = pc.or_kleene(failed, more)
        reasons = explain(failed, lambda rows: self._say(rows, sizes, beyond))
        return ScoreColumns(values.cast(pa.float64()), failed, reasons)

    def _measure(self, table: pa.Table) -> dict[str, tuple[Array, str]]:
        """Each bounded unit's size per row, and the word for it."""
        units = {unit for unit, _, _ in self.bounds}
        text = read_text(table, self.field, "check 'length'")
        sizes = {}
        if "chars" in units:
            sizes["chars"] = (as_array(pc.utf8_length(text)), "characters")
        if "tokens" in units:
            size, word = measure_tokens(table, text, self.tokens_field, "check 'length'")
            sizes["tokens"] = (as_array(size), word)
        return sizes

    def _say(
        self,
        rows: pa.BooleanArray,
        sizes: Mapping[str, tuple[Array, str]],
        beyond: list[Array],
    ) -> Array:
        """For each failed row, the first bound it breaks, in the order of `bounds`."""
        reasons: Array = pa.nulls(rows.true_count, pa.string())
        for (unit, end, limit), broken in zip(self.bounds, beyond, strict=True):
            size, word = sizes[unit]
            counted = size.filter(rows).cast(pa.string())
            said = pc.binary_join_element_wise(counted, f" {_BEYOND[end][1]} {limit} {word}", "")
            here = pc.if_else(
                pc.fill_null(broken.filter(rows), False),
                said,
                pa.scalar(None, pa.string()),
            )
            reasons = pc.coalesce(reasons, here)
        return reasons


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
