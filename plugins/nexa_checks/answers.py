"""The verifiers of answers: what a text answers, whether that is right, what most samples answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nexa_checks.columns import Array, Column, as_array, read_text, require_option
from nexa_checks.predicates import require_pattern
from nexa_checks.verdicts import explain, score_passing
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import AnswerOptions, MajorityOptions

_NUMBER = r"[-+−]?[$€£]?[-+−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:/\d+)?"
_BEFORE = r".*[^\d.,/$€£+−eE-]|(?:.*[^\d.])?[eE]|.*[\d)]\s*[-+−]"
"""What a number may stand after: not within another, nor as the exponent of one."""
_LAST_NUMBER = rf"(?s)\A(?:{_BEFORE})?(?P<answer>{_NUMBER})"
_BOXED = r"(?s)\A.*\\boxed\s*\{(?P<answer>(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_NUMERIC = r"\A(?P<over>[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?:/(?P<under>0*[1-9]\d*))?\z"
_TOLERANCE = 1e-9


class Reading:
    """How the answer is taken from a text: boxed, the last number, a pattern, or the whole text."""

    def __init__(self, how: str, pattern: str | None, asker: str) -> None:
        self.asker, self.is_number = asker, how == "last_number"
        named = {"boxed": _BOXED, "last_number": _LAST_NUMBER, "regex": pattern, "text": None}
        if how == "regex":
            self.pattern: str | None = _name_group(require_option(pattern, "pattern", asker), asker)
        else:
            self.pattern = named[how]

    def take(self, text: Array) -> Array:
        """The answers, normalised; null where a text has none."""
        if self.pattern is not None:
            if self.is_number:  # thousands as TeX sets them
                text = pc.replace_substring_regex(text, r"(\d)(?:\{,\}|\\,)(\d)", r"\1,\2")
            text = pc.struct_field(pc.extract_regex(text, self.pattern), "answer")
        return normalise(text)


class AnswerEquals:
    """Fails a text whose answer is not the one in another column; left out where there is none.

    Numbers are compared as numbers, all else as text without case and signs around it. Formulas
    are not compared as formulas.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.asker = "check 'answer_equals'"
        self.field = require_option(options.field, "field", self.asker)
        self.column = options.column
        self.reading = Reading(options.take, options.pattern, self.asker)
        take = options.expected or ("text" if options.take == "regex" else options.take)
        self.expected = Reading(take, options.pattern, self.asker)

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, self.asker))
        right = as_array(read_as_text(table, self.column, self.asker))
        wanted = pc.coalesce(self.expected.take(right), normalise(right))
        answer = self.reading.take(text)
        same = pc.fill_null(equal_answers(answer, wanted), False)
        applies = pc.and_(text.is_valid(), right.is_valid())
        failed = pc.if_else(applies, pc.invert(same), pa.scalar(None, pa.bool_()))

        def say() -> Array:
            said = pc.fill_null(pc.utf8_slice_codeunits(answer.filter(failed), 0, 60), "nothing")
            short = pc.utf8_slice_codeunits(wanted.filter(failed), 0, 60)
            return pc.binary_join_element_wise("answers", said, "not", short, " ")

        return ScoreColumns(score_passing(failed), failed, explain(failed, say))


class Majority:
    """Fails a sample whose answer is not the one that most samples of its source row give.

    The score is the share of the source row's samples with the same answer (self-consistency, Wang
    et al. 2023). Of answers that are given equally often the one that was given first is taken. A
    sample without an answer fails, and scores 0. Samples of a source row are always in one shard, so nothing is
    remembered.
    """

    def __init__(self, options: MajorityOptions) -> None:
        self.asker = "check 'majority'"
        self.field = require_option(options.field, "field", self.asker)
        self.reading = Reading(options.take, options.pattern, self.asker)
        self.least = options.least

    def start(self) -> None:
        return None

    def fold(self, state: None, table: pa.Table) -> tuple[None, ScoreColumns]:
        answer = _canonical(self.reading.take(as_array(read_text(table, self.field, self.asker))))
        sources = as_array(read_text(table, "source_id", self.asker)).dictionary_encode().indices
        source = sources.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = pc.fill_null(answer.dictionary_encode().indices, -1)
        code = codes.to_numpy(zero_copy_only=False).astype(np.int64) + 1
        width = int(code.max(initial=0)) + 1
        pairs, first, home, count = np.unique(
            source * width + code, return_index=True, return_inverse=True, return_counts=True
        )
        samples = np.bincount(source, minlength=1)
        share = count / np.maximum(samples[pairs // width], 1)
        rank = np.lexsort((first, -count, pairs % width == 0, pairs // width))
        best = rank[np.concatenate([[True], np.diff((pairs // width)[rank]) > 0])[: len(rank)]]
        wins = np.zeros(len(pairs), bool)
        wins[best] = True
        answered = pairs % width != 0
        wins &= answered & (share >= self.least)
        failed = pa.array(~wins[home])
        said = pa.array(np.where(answered, share, 0.0)[home])
        reasons = explain(failed, lambda: _say(said.filter(failed)))
        return None, ScoreColumns(said, failed, reasons)


def normalise(text: Array) -> Array:
    """Lower case, without white space and signs around, thousands commas, currency, `\\text{}`."""
    text = pc.replace_substring_regex(text, r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1")
    text = pc.replace_substring_regex(text, r"\\(?:[!,;: ]|left|right)|\\?[$€£%]", "")
    text = pc.replace_substring_regex(text, r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2")
    text = pc.replace_substring_regex(pc.utf8_lower(text), "−", "-")
    text = pc.replace_substring_regex(text, r"(\d),(\d{3})", r"\1\2")
    text = pc.replace_substring_regex(text, r"(\d),(\d{3})", r"\1\2")
    return pc.utf8_trim(pc.utf8_trim_whitespace(text), " .,;:!?\"'*_`\n\t")


def equal_answers(answer: Array, wanted: Array) -> Array:
    """Where two normalised answers are one number, or one text; null where either is missing."""
    same = pc.equal(answer, wanted)
    left, right = _as_number(answer), _as_number(wanted)
    span = pc.multiply(pc.max_element_wise(pc.abs(right), 1.0), _TOLERANCE)
    close = pc.less_equal(pc.abs(pc.subtract(left, right)), span)
    return pc.or_(same, pc.fill_null(close, False))


def read_as_text(table: pa.Table, name: str, asker: str) -> Column:
    """A column of text or of numbers, as text."""
    kind = table.schema.field(name).type if name in table.column_names else None
    if kind is not None and (pt.is_integer(kind) or pt.is_floating(kind)):
        return table[name].cast(pa.string())
    return read_text(table, name, asker)


def _as_number(text: Array) -> Array:
    """The number that a text is, a fraction too; null where it is none."""
    parts = pc.extract_regex(text, _NUMERIC)
    over, under = (pc.struct_field(parts, name) for name in ("over", "under"))
    under = pc.if_else(pc.equal(under, ""), "1", under)
    return pc.divide(over.cast(pa.float64()), under.cast(pa.float64()))


def _canonical(answer: Array) -> Array:
    """Numbers in one way of writing, so that 4, 4.0 and +4 are one answer."""
    number = _as_number(answer)
    return pc.coalesce(number.cast(pa.string()), answer)


def _name_group(pattern: str, asker: str) -> str:
    """The pattern with its first group called `answer`, as the kernel wants it.

    Raises:
        UsageError: It is no pattern, or has no group.
    """
    require_pattern(pattern, asker)
    if "(?P<answer>" in pattern:
        return pattern
    named = re.sub(r"(?<!\\)\((?!\?)", "(?P<answer>", pattern, count=1)
    if named == pattern:
        raise UsageError(
            f"The pattern '{pattern}' of the {asker} does not say what the answer is.",
            "Put the answer into a group: `Answer: (.+)`.",
        )
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", named)


def _say(shares: Array) -> Array:
    percent = pc.round(pc.multiply(shares, 100)).cast(pa.int64()).cast(pa.string())
    told = pc.binary_join_element_wise("its answer has", percent, "% of the samples", " ")
    return pc.if_else(pc.equal(shares, 0.0), "gives no answer", told)
