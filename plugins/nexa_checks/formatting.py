"""The check of broken formatting: what a text opens and does not close, and where it breaks off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import FormattingOptions

_FENCE = r"(?m)^[ \t]{0,3}(?:```|~~~)"
CODE = r"(?ms)^[ \t]{0,3}(?:```.*?(?:^[ \t]{0,3}```|\z)|~~~.*?(?:^[ \t]{0,3}~~~|\z))|`[^`\n]*`"
"""Fenced blocks and code within a line."""
_NO_BRACKETS = r"(?m)[:;=]['’-]?[(){}\[\]]|^[ \t>*-]*[\pL\pN]{1,4}[)\]]|<-|->"
"""Smileys and the numbers of lists."""
_OPEN, _CLOSE = r"[(\[{（［｛【「『《]", r"[)\]}）］｝】」』》]"
_MARKS = r"[\"'”’»)\]*_]*"
_PROMISE = (
    r"[:：]\s*\z|\A[\s.,:;!?…。，、：；！？'\"`–—_*#>|-]*[.,:;!?…。，、：；！？'\"`–—_*#>|-]\s*\z"
)
"""What only begins: a text that ends with a colon, or that is nothing but marks."""
_BROKEN_OFF = (
    r"(?:[,、，–—]|"
    rf"\pL{{3,}}[.!?…]{_MARKS}[ \t]+(?:[^\n]*[^\n#\pL\pM\pN])?[\pL\pM\pN]+|"
    rf"[。！？｡।؟۔።]{_MARKS}[^\n]*[\pL\pM\pN])\s*\z"
)
"""A mark after which something must come, or a last line whose sentences end but for the last."""


class Formatting:
    """Fails a text with an unclosed code fence or bracket, or that breaks off within a sentence.

    Knows no language: sentences end with the marks of Latin, Greek, Cyrillic, Arabic, Indic, Ethiopic
    and East Asian writing, and only a last line that ends a sentence before is expected to end one. An
    answer of marks alone, or one that ends with a colon, begins something and says nothing: judges have
    been seen to take ":" and "Thought process:" for good answers (Zhao et al. 2025, arXiv:2507.08794).
    """

    def __init__(self, options: FormattingOptions) -> None:
        self.field = require_option(options.field, "field", "check 'formatting'")
        self.options = options

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, "check 'formatting'"))
        reason: Any = pa.nulls(len(text), pa.string())
        for found, said in reversed(list(self._look(text))):
            reason = pc.if_else(pc.fill_null(found, False), said, reason)
        failed = pc.if_else(text.is_valid(), reason.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reason)

    def _look(self, text: Array) -> list[tuple[Array, str]]:
        """What is wrong with each text, and the words for it, the first first."""
        prose, found = cut_code(text), []
        if self.options.fences:
            odd = pc.bit_wise_and(pc.count_substring_regex(text, _FENCE), 1)
            found.append((pc.equal(odd, 1), "a code fence is not closed"))
        if self.options.brackets:
            found.append((_leaves_open(prose), "a bracket is not closed"))
        if self.options.ending:
            broken = pc.match_substring_regex(prose, _BROKEN_OFF)
            found.append((broken, "breaks off within a sentence"))
            found.append((pc.match_substring_regex(text, _PROMISE), "breaks off where it begins"))
        return found


def cut_code(text: Array) -> Array:
    """The texts without their code."""
    marked = pc.match_substring_regex(text, "```|~~~|`")
    if not marked.true_count:
        return text
    cut = pc.replace_substring_regex(text.filter(marked), CODE, "\n")
    return pc.replace_with_mask(text, pc.fill_null(marked, False), cut)


def _leaves_open(prose: Array) -> Array:
    """Where more brackets open than close; kinds count together, as in the interval `[0, 1)`."""
    held = pc.fill_null(pc.match_substring_regex(prose, _OPEN), False)
    some = pc.replace_substring_regex(prose.filter(held), _NO_BRACKETS, "")
    opened, closed = (pc.count_substring_regex(some, kind) for kind in (_OPEN, _CLOSE))
    return pc.replace_with_mask(pa.repeat(False, len(prose)), held, pc.greater(opened, closed))
