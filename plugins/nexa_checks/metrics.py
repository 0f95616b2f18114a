"""The metrics: one outcome per row of the table, null for rows outside the population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import (
    Array,
    Column,
    as_array,
    list_scores,
    read_score,
    read_text,
    read_told_text,
    require_option,
)
from nexa_checks.duplicates import ExactDuplicates
from nexa_checks.length import measure_tokens
from nexa_checks.predicates import equals, is_blank
from nexa_checks.text import DelimiterLeakage, Refusal, Runaway, find_limited
from nexa_core import CheckError, State, suggest

if TYPE_CHECKING:
    from nexa_checks import options as opt


DUPLICATE_SCORES = ("exact_duplicates", "near_duplicates")
"""The checks whose verdicts `duplicate_rate` counts; a row that one of them failed never met the next."""


class RunawayRate:
    """True where the answer runs on into another record."""

    def __init__(self, options: opt.RunawayOptions) -> None:
        self.runaway = Runaway(options, "metric 'runaway_rate'")

    def outcomes(self, table: pa.Table) -> Array:
        return _within(_gated(table), self.runaway.find(table))


class DelimiterLeakageRate:
    """True where the final text holds a delimiter."""

    def __init__(self, options: opt.DelimiterOptions) -> None:
        self.leakage = DelimiterLeakage(options, "metric 'delimiter_leakage'")

    def outcomes(self, table: pa.Table) -> Array:
        return _within(_gated(table), self.leakage.find(table))


class RefusalRate:
    """True where the answer starts as a refusal."""

    def __init__(self, options: opt.RefusalOptions) -> None:
        self.refusal = Refusal(options, "metric 'refusal_rate'")

    def outcomes(self, table: pa.Table) -> Array:
        return _within(_gated(table), self.refusal.find(table))


class TokenLimitRate:
    """True where the model stopped at its token limit."""

    def __init__(self, options: opt.FinishOptions) -> None:
        self.finish_field = options.finish_field

    def outcomes(self, table: pa.Table) -> Array:
        limited = find_limited(table, self.finish_field, "metric 'token_limit_rate'")
        return _within(_gated(table), limited)


class Tokens:
    """The number of tokens of the answer, or of words where the model counts none."""

    def __init__(self, options: opt.TokenOptions) -> None:
        self.field = require_option(options.field, "field", "metric 'median_tokens'")
        self.tokens_field = options.tokens_field

    def outcomes(self, table: pa.Table) -> Array:
        text = read_text(table, self.field, "metric 'median_tokens'")
        tokens, _ = measure_tokens(table, text, self.tokens_field, "metric 'median_tokens'")
        return _within(_gated(table), tokens)


class AcceptanceRate:
    """True where the row was accepted, as surplus too; false where it was rejected."""

    def outcomes(self, table: pa.Table) -> Array:
        rejected = equals(_states(table, "metric 'acceptance_rate'"), State.REJECTED)
        return _within(_gated(table), pc.invert(rejected))


class RejectedRate:
    """True where the row was rejected."""

    def outcomes(self, table: pa.Table) -> Array:
        rejected = equals(_states(table, "metric 'rejected_rate'"), State.REJECTED)
        return _within(_gated(table), rejected)


class FailedRate:
    """True where the row failed; the only metric whose population holds failed rows."""

    def outcomes(self, table: pa.Table) -> Array:
        failed = equals(_states(table, "metric 'failed_rate'"), State.FAILED)
        return _within(_first_samples(table), failed)


class EmptyRate:
    """True where the answer is missing, or only white space and unseen characters.

    A row with a finish reason was answered. Without such a column the source brought the answers,
    and a missing one is an empty one.
    """

    def __init__(self, options: opt.EmptyRateOptions) -> None:
        self.field = require_option(options.field, "field", "metric 'empty_rate'")
        self.finish_field = options.finish_field

    def outcomes(self, table: pa.Table) -> Array:
        blank = is_blank(read_text(table, self.field, "metric 'empty_rate'"))
        finish = read_told_text(table, self.finish_field, "_finish_reason", "metric 'empty_rate'")
        population = _gated(table)
        if finish is not None:
            population = _both(population, as_array(finish.is_valid()))
        return _within(population, pc.fill_null(blank, True))


class DuplicateRate:
    """True where the duplicates check failed the row, or the shard has its text before it."""

    def __init__(self, options: opt.DuplicateRateOptions) -> None:
        from nexa_checks.options import DuplicateOptions

        self.score = options.score
        field = require_option(options.field, "field", "metric 'duplicate_rate'")
        self.check = ExactDuplicates(
            DuplicateOptions.model_validate({"field": field}), "metric 'duplicate_rate'"
        )

    def outcomes(self, table: pa.Table) -> Array:
        found = [read_score(table, name) for name in (*DUPLICATE_SCORES, self.score) if name]
        scores = [each for each in found if each is not None]
        if self.score is not None:
            if found[-1] is None:
                raise _unknown_score("duplicate_rate", self.score, table)
            scores = [found[-1]]
        if scores:
            return _within(_gated(table), pc.less(pc.min_element_wise(*scores), 1.0))
        population = _gated(table)
        met = table if population is None else table.filter(population)
        _, verdict = self.check.fold(self.check.start(), met)
        if population is None:
            return verdict.failed
        return pc.replace_with_mask(pa.nulls(len(table), pa.bool_()), population, verdict.failed)


class UnscoredRate:
    """True where the row was rejected because a judgement could not be read."""

    def __init__(self, options: opt.UnscoredOptions) -> None:
        self.judges = options.judges

    def outcomes(self, table: pa.Table) -> Array:
        asker = "metric 'unscored_rate'"
        rejected = equals(_states(table, asker), State.REJECTED)
        reason = pc.starts_with(read_text(table, "reason", asker), "unscored")
        unscored = as_array(pc.and_(rejected, pc.fill_null(reason, False)))
        population = _gated(table)
        if self.judges:
            population = _both(population, self._reached(table, unscored))
        return _within(population, unscored)

    def _reached(self, table: pa.Table, unscored: Array) -> Array:
        """Rows that a judge scored, or could not."""
        reached = pc.fill_null(unscored, False)
        for judge in self.judges or ():
            scores = read_score(table, judge)
            if scores is None:
                raise _unknown_score("unscored_rate", judge, table)
            reached = pc.or_(reached, as_array(scores.is_valid()))
        return reached


class SafetyFlagRate:
    """True where one of the row's flags starts with the prefix."""

    def __init__(self, options: opt.FlagOptions) -> None:
        self.prefix = options.prefix

    def outcomes(self, table: pa.Table) -> Array:
        decided = as_array(_states(table, "metric 'safety_flag_rate'").is_valid())
        flags = as_array(table["flags"]) if "flags" in table.column_names else pa.nulls(len(table))
        if pa.types.is_null(flags.type):
            return _within(_both(_gated(table), decided), pa.repeat(False, len(table)))
        marked = pc.starts_with(pc.list_flatten(flags).cast(pa.string()), self.prefix)
        found = np.zeros(len(table), bool)
        found[pc.list_parent_indices(flags).filter(pc.fill_null(marked, False)).to_numpy()] = True
        return _within(_both(_gated(table), decided), pa.array(found))


class MeanScore:
    """The row's score of one id; null where it has none."""

    def __init__(self, options: opt.ScoreOptions) -> None:
        self.score = options.score

    def outcomes(self, table: pa.Table) -> Array:
        scores = read_score(table, self.score)
        if scores is None:
            raise _unknown_score("mean_score", self.score, table)
        return _within(_gated(table), scores)


def inside_gate(table: pa.Table, outcomes: Column | Array) -> Array:
    """The outcomes of rows that a gate may count, null for the others."""
    return _within(_gated(table), outcomes)


def _gated(table: pa.Table) -> Array | None:
    """Rows that a gate may count: not failed, first sample; None where that is every row."""
    if "state" not in table.column_names:
        return _first_samples(table)
    healthy = pc.not_equal(_states(table, "metric"), State.FAILED.value)
    return _both(as_array(healthy), _first_samples(table))


def _first_samples(table: pa.Table) -> Array | None:
    if "sample" not in table.column_names:
        return None
    return as_array(pc.equal(table["sample"], pa.scalar(0, table["sample"].type)))


def _both(left: Array | None, right: Array | None) -> Array | None:
    if left is None or right is None:
        return right if left is None else left
    return pc.and_(left, right)


def _within(population: Array | None, outcomes: Column | Array) -> Array:
    """The outcomes inside the population, null outside."""
    values = as_array(outcomes)
    if population is None:
        return values
    return pc.if_else(population, values, pa.scalar(None, values.type))


def _states(table: pa.Table, asker: str) -> Column:
    return read_text(table, "state", asker)


def _unknown_score(metric: str, score: str, table: pa.Table) -> CheckError:
    known = list_scores(table)
    near = suggest(score, known)
    return CheckError(
        f"The metric '{metric}' reads the score '{score}', which no row has. "
        f"Scores: {', '.join(known) or 'none'}.",
        f"Did you mean '{near}'?" if near else "Name a check, judge or critic of the pipeline.",
    )
