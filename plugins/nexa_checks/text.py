"""Checks of one text by itself: empty, truncated, runaway, leaking delimiters, refusing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from nexa_core import FinishReason, ScoreColumns

from nexa_checks.columns import (
    Array,
    Column,
    as_array,
    read_text,
    read_told_text,
    require_option,
)
from nexa_checks.predicates import contains_any, equals, group_patterns, is_blank, require_pattern
from nexa_checks.refusals import join_openings
from nexa_checks.verdicts import explain, pass_or_fail, score_passing

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
        return pass_or_fail(pc.fill_null(blank, True), "no text")


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
        self.delimiters = require_option(options.delimiters, "delimiters", asker)
        self.patterns = group_patterns(self.delimiters)

    def score(self, table: pa.Table) -> ScoreColumns:
        raw, text = self._texts(table)
        failed = as_array(self._find(raw, text))
        seen = (text,) if raw is None else (raw, text)
        return _name_delimiters(failed, seen, self.delimiters, "runs on")

    def find(self, table: pa.Table) -> Column:
        """Where the text runs away; null where there is none."""
        return self._find(*self._texts(table))

    def _texts(self, table: pa.Table) -> tuple[Column | None, Column]:
        raw = read_told_text(table, self.raw_field, "_raw_text", self.asker)
        return raw, read_text(table, self.field, self.asker)

    def _find(self, raw: Column | None, text: Column) -> Column:
        if raw is None or raw.null_count == len(raw):
            return contains_any(text, self.patterns)
        found = contains_any(raw, self.patterns)
        if raw.null_count:
            found = pc.coalesce(found, contains_any(text, self.patterns))
        return found


class DelimiterLeakage:
    """Fails a final text that contains a delimiter."""

    def __init__(self, options: DelimiterOptions, asker: str = "check 'delimiter_leakage'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.delimiters = require_option(options.delimiters, "delimiters", asker)
        self.patterns = group_patterns(self.delimiters)

    def score(self, table: pa.Table) -> ScoreColumns:
        text = read_text(table, self.field, self.asker)
        failed = as_array(contains_any(text, self.patterns))
        return _name_delimiters(failed, (text,), self.delimiters, "contains")

    def find(self, table: pa.Table) -> Column:
        """Where the final text holds a delimiter; null where there is none."""
        return contains_any(read_text(table, self.field, self.asker), self.patterns)


class Refusal:
    """Fails an answer that starts as a refusal; the openings are in `refusals.py`."""

    def __init__(self, options: RefusalOptions, asker: str = "check 'refusal'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.pattern = join_openings(options.patterns)
        for pattern in options.patterns or ():
            require_pattern(pattern, asker)

    def score(self, table: pa.Table) -> ScoreColumns:
        return pass_or_fail(self.find(table), "starts as a refusal")

    def find(self, table: pa.Table) -> Column:
        """Where the text starts as a refusal; null where there is none."""
        return pc.match_substring_regex(read_text(table, self.field, self.asker), self.pattern)


def find_limited(table: pa.Table, finish_field: str | None, asker: str) -> Column | Array:
    """Where the model stopped at its token limit; null where the table does not say."""
    finish = read_told_text(table, finish_field, "_finish_reason", asker)
    if finish is None:
        return pa.nulls(len(table), pa.bool_())
    return equals(finish, FinishReason.LENGTH)


def _name_delimiters(
    failed: Array, columns: Sequence[Column], delimiters: Sequence[str], verb: str
) -> ScoreColumns:
    """Scores whose reasons name, per failed row, the first delimiter in its first text not null."""

    def name(rows: pa.BooleanArray) -> Array:
        texts = as_array(pc.coalesce(*(column.filter(rows) for column in columns)))
        found = [pc.match_substring_regex(texts, group_patterns([d])[0]) for d in delimiters[:-1]]
        reasons = [f"{verb} {delimiter!r}" for delimiter in delimiters]
        if not found:
            return pa.repeat(pa.scalar(reasons[0]), len(texts))
        picks = pa.StructArray.from_arrays(found, [str(i) for i in range(len(found))])
        return pc.case_when(picks, *reasons)

    return ScoreColumns(score_passing(failed), failed, explain(failed, name))
