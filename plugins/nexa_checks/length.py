"""The check of length, in characters and in tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

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

_BEYOND = {"min": (pc.less, "of at least"), "max": (pc.greater, "of at most")}


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
        beyond = [_BEYOND[end][0](sizes[unit][0], limit) for unit, end, limit in self.bounds]
        failed = beyond[0]
        for more in beyond[1:]:
            failed = pc.or_kleene(failed, more)
        return ScoreColumns(values.cast(pa.float64()), failed, self._explain(sizes, beyond))

    def _measure(self, table: pa.Table) -> dict[str, tuple[Array, str]]:
        """Each bounded unit's size per row, and the word for it."""
        units = {unit for unit, _, _ in self.bounds}
        text = read_text(table, self.field, self.asker)
        sizes = {}
        if "chars" in units:
            sizes["chars"] = (count_characters(text), "characters")
        if "tokens" in units:
            size, word = measure_tokens(table, text, self.tokens_field, self.asker)
            sizes["tokens"] = (as_array(size), word)
        return sizes

    def _explain(
        self, sizes: Mapping[str, tuple[Array, str]], beyond: Sequence[Array]
    ) -> Array | None:
        """For each failed row, the first bound it breaks, in the order of `bounds`."""
        reasons = None
        for (unit, end, limit), broken in reversed(list(zip(self.bounds, beyond, strict=True))):
            size, word = sizes[unit]
            said = partial(_say, size, broken, f"{_BEYOND[end][1]} {limit} {word}")
            reasons = explain(broken, said, reasons)
        return reasons


def _say(size: Array, broken: Array, bound: str) -> Array:
    return pc.binary_join_element_wise(size.filter(broken).cast(pa.string()), bound, " ")


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
