"""The check of language, by a detector whose model comes with its wheel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import as_array, read_text, require_option
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns, UsageError, suggest

if TYPE_CHECKING:
    from nexa_checks.options import LanguageOptions

ASKER = "check 'language'"
_READ = 600
"""Characters that are read of a text: more change the answer in few cases, and cost in proportion."""
_NO_PROSE = r"(?s)```.*?(?:```|\z)|`[^`\n]*`|https?://\S+|[\w.+-]+@[\w.-]+"


class Language:
    """Fails a text in a language other than those given; short ones are left out.

    The score is the probability that the text is in one of them (py3langid: naive Bayes over byte
    sequences, Lui and Baldwin 2011). Code and addresses are not read.
    """

    def __init__(self, options: LanguageOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        self.detector = _load_detector()
        self.least, self.min_chars = options.min_confidence, options.min_chars
        known = self.detector.labels
        for language in options.languages:
            if language not in known:
                near = suggest(language, known)
                raise UsageError(
                    f"The {ASKER} knows no language '{language}'.",
                    f"Did you mean '{near}'?" if near else f"It knows: {', '.join(sorted(known))}.",
                )
        self.languages = frozenset(options.languages)

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, ASKER))
        marked = pc.match_substring_regex(text, "`|://|@")
        if marked.true_count:
            prose = pc.replace_substring_regex(text.filter(marked), _NO_PROSE, " ")
            text = pc.replace_with_mask(text, pc.fill_null(marked, False), prose)
        head = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(text), 0, _READ)
        long = pc.greater_equal(pc.utf8_length(head), self.min_chars)
        found = [self._measure(each) for each in head.filter(long).to_pylist()]
        long = pc.fill_null(long, False)
        values, failed, language = (
            pc.replace_with_mask(
                pa.nulls(len(text), kind), long, pa.array([each[at] for each in found], kind)
            )
            for at, kind in enumerate((pa.float64(), pa.bool_(), pa.string()))
        )
        return ScoreColumns(
            values,
            failed,
            explain(
                failed, lambda: pc.binary_join_element_wise("in", language.filter(failed), " ")
            ),
        )

    def _measure(self, text: str) -> tuple[float, bool, str]:
        """The probability of the languages asked for, whether it is another, the likeliest of all."""
        ranked = self.detector.rank(text)
        language, most = ranked[0]
        share = sum(part for name, part in ranked if name in self.languages)
        return min(share, 1.0), language not in self.languages and most >= self.least, language


@cache
def _load_detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
