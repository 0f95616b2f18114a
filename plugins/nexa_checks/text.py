"""Checks of one text by itself: empty, truncated, runaway, leaking delimiters, refusing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import (
    Array,
    Column,
    read_text,
    read_told_text,
    require_option,
)
from nexa_checks.delimiters import Delimiters
from nexa_checks.predicates import equals, is_blank
from nexa_checks.refusals import Openings
from nexa_checks.verdicts import pass_or_fail
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
    """Fails a text that is missing or only white space."""

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
        return self.delimiters.judge(*self._read(table))

    def find(self, table: pa.Table) -> Array:
        """Where the text runs away; null where there is none."""
        return self.delimiters.occur_in(*self._read(table))

    def _read(self, table: pa.Table) -> tuple[Column, ...]:
        """The columns to look in: for each row the first that is not null counts."""
        text = read_text(table, self.field, self.asker)
        raw = read_told_text(table, self.raw_field, "_raw_text", self.asker)
        if raw is None or raw.null_count == len(raw):
            return (text,)
        return (raw, text) if raw.null_count else (raw,)


class DelimiterLeakage:
    """Fails a final text that contains a delimiter."""

    def __init__(self, options: DelimiterOptions, asker: str = "check 'delimiter_leakage'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        texts = require_option(options.delimiters, "delimiters", asker)
        self.delimiters = Delimiters(texts, "contains")

    def score(self, table: pa.Table) -> ScoreColumns:
        return self.delimiters.judge(read_text(table, self.field, self.asker))

    def find(self, table: pa.Table) -> Array:
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
