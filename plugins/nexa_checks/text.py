"""Checks of one text by itself: empty, truncated, runaway, leaking delimiters, refusing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import (
    Array,
    Column,
    as_array,
    read_text,
    read_told_text,
    require_option,
)
from nexa_checks.delimiters import Delimiters
from nexa_checks.predicates import (
    equals,
    is_blank,
)
from nexa_checks.refusals import Openings
from nexa_checks.verdicts import explain, pass_or_fail, score_passing
from nexa_core import FinishReason, ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import (
        DelimiterOptions,
        FieldOptions,
        FinishOptions,
        RefusalOptions,
        RunawayOptions,
    )


class Empty:
    """Fails a text that is missing, or only white space and unseen characters."""

    def __init__(self, options: FieldOptions) -> None:
        self.field = require_option(options.field, "field", "check 'empty'")

    def score(self, table: pa.Table) -> ScoreColumns:
        blank = is_blank(read_text(table, self.field, "check 'empty'"))
        return pass_or_fail(pc.fill_null(blank, True) if blank.null_count else blank, "no text")


class Truncated:
    """Fails an answer that ended at the token limit; null where no finish reason is known."""

    def __init__(self, options: FinishOptions) -> None:
        self.finish_field = options.finish_field

    def score(self, table: pa.Table) -> ScoreColumns:
        limited = find_limited(table, self.finish_field, "check 'truncated'")
        return pass_or_fail(limited, "stopped at the token limit")


class Runaway:
    """Fails a text that, before stop-trimming, contains a delimiter."""

    def __init__(self, options: RunawayOptions, asker: str = "check 'runaway'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.raw_field = options.raw_field
        texts = require_option(options.delimiters, "delimiters", asker)
        self.delimiters = Delimiters(texts, "runs on")

    def score(self, table: pa.Table) -> ScoreColumns:
        texts = self._read(table)
        failed = as_array(self._find(texts))
        return _name_delimiters(failed, texts, self.delimiters)

    def find(self, table: pa.Table) -> Column:
        """Where the text runs away; null where there is none."""
        return self._find(self._read(table))

    def _read(self, table: pa.Table) -> tuple[Column, ...]:
        """The columns to look in: for each row the first that is not null counts."""
        text = read_text(table, self.field, self.asker)
        raw = read_told_text(table, self.raw_field, "_raw_text", self.asker)
        if raw is None or raw.null_count == len(raw):
            return (text,)
        return (raw, text) if raw.null_count else (raw,)

    def _find(self, texts: tuple[Column, ...]) -> Column:
        found = [self.delimiters.occur_in(text) for text in texts]
        return found[0] if len(found) == 1 else pc.coalesce(*found)


class DelimiterLeakage:
    """Fails a final text that contains a delimiter."""

    def __init__(self, options: DelimiterOptions, asker: str = "check 'delimiter_leakage'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        texts = require_option(options.delimiters, "delimiters", asker)
        self.delimiters = Delimiters(texts, "contains")

    def score(self, table: pa.Table) -> ScoreColumns:
        text = read_text(table, self.field, self.asker)
        failed = as_array(self.delimiters.occur_in(text))
        return _name_delimiters(failed, (text,), self.delimiters)

    def find(self, table: pa.Table) -> Column:
        """Where the final text holds a delimiter; null where there is none."""
        return self.delimiters.occur_in(read_text(table, self.field, self.asker))


class Refusal:
    """Fails an answer that starts as a refusal; the openings are in `refusals.py`."""

    def __init__(self, options: RefusalOptions, asker: str = "check 'refusal'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.openings = Openings(options.patterns, asker)

    def score(self, table: pa.Table) -> ScoreColumns:
        return pass_or_fail(self.find(table), "starts as a refusal")

    def find(self, table: pa.Table) -> Array:
        """Where the text starts as a refusal; null where there is none."""
        return self.openings.start(read_text(table, self.field, self.asker))


def find_limited(table: pa.Table, finish_field: str | None, asker: str) -> Column | Array:
    """Where the model stopped at its token limit; null where the table does not say."""
    finish = read_told_text(table, finish_field, "_finish_reason", asker)
    if finish is None:
        return pa.nulls(len(table), pa.bool_())
    return equals(finish, FinishReason.LENGTH)


def _name_delimiters(
    failed: Array, texts: Sequence[Column], delimiters: Delimiters
) -> ScoreColumns:
    """Scores whose reasons name a delimiter that the failed row holds."""

    def name() -> Array:
        held = [text.filter(failed) for text in texts]
        return delimiters.name_found(held[0] if len(held) == 1 else pc.coalesce(*held))

    return ScoreColumns(score_passing(failed), failed, explain(failed, name))
