"""The checks of the science preset: action verbs, citations, and the preset that joins them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, read_text, require_option
from nexa_checks.formatting import cut_code
from nexa_checks.length import Length
from nexa_checks.verdicts import explain, score_passing
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import ActionVerbOptions, FieldOptions, ScienceOptions

VERBS = (
    *("prepare", "simulate", "evaluate", "compare", "measure", "analyze", "analyse", "calculate"),
    *("compute", "estimate", "synthesize", "synthesise", "characterize", "characterise", "model"),
    *("test", "validate", "verify", "determine", "identify", "investigate", "examine", "observe"),
    *(
        "monitor",
        "record",
        "vary",
        "control",
        "optimize",
        "optimise",
        "design",
        "derive",
        "predict",
    ),
    *(
        "quantify",
        "mix",
        "heat",
        "cool",
        "dissolve",
        "dilute",
        "add",
        "remove",
        "extract",
        "purify",
    ),
    *("isolate", "filter", "incubate", "anneal", "deposit", "irradiate", "expose", "sample", "fit"),
    *("plot", "train", "implement", "apply", "perform", "conduct", "repeat", "collect", "select"),
    *("assess", "calibrate", "titrate", "centrifuge", "sequence", "assay", "screen", "demonstrate"),
)
"""What a text that says how something is done is full of (English)."""

_DOUBLED = frozenset({"control", "model", "label", "program"})
_DOUBLING = re.compile(r"[^aeiou]*[aeiou][bdgklmnprt]")
_RAISED = r"[\x{b9}\x{b2}\x{b3}\x{2070}\x{2074}-\x{2079}]"
_MATRIX = r"\[\s*(?:\[[^\[\]\n]*\]\s*,\s*)+\[[^\[\]\n]*\]\s*\]"
_MARKERS = (
    r"\[citation needed\]|【\d+[^】]*】|\\cite[a-z]*\{"
    rf"|\pL{{3,}}{_RAISED}{{2,}}(?:[\s.,;]|$)|[.,;!?”’\"]{_RAISED}(?:,?{_RAISED})*(?:\s|$)"
)
CITATIONS = (
    (r"\[\^?[1-9]\d{0,2}(?:\s*[,;–-]\s*\^?[1-9]\d{0,2})*\]", "a bracketed reference"),
    (r"\[[^\[\]\n]*\b(?:19|20)\d\d[a-z]?\s*\]", "a bracketed reference"),
    (
        r"\(\s*(?:see\s+|e\.g\.,?\s+|cf\.\s+)?\p{Lu}[\pL'’-]+[^()\n]{0,80}?\b(?:19|20)\d\d[a-z]?(?:[;,][^()\n]{0,80})?\)",
        "a citation in brackets",
    ),
    (r"\p{Lu}[\pL'’-]+ et al\.?", "a citation (et al.)"),
    (r"(?i)\bdoi:\s*10\.|doi\.org/10\.|\barxiv:\s*\d{4}\.\d{4,5}", "a citation (DOI or arXiv)"),
    (
        _MARKERS,
        "a citation marker",
    ),
)
"""Patterns (RE2) of citation markers, and the words for each."""


class ActionVerbs:
    """Fails a text with fewer than `least` different action verbs; any inflection counts.

    The score is the number of different verbs found.
    """

    def __init__(self, options: ActionVerbOptions, asker: str = "check 'action_verbs'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)
        self.least = options.least
        verbs = dict.fromkeys(verb.lower() for verb in options.verbs or VERBS)
        self.forms = pa.array([form for verb in verbs for form in inflect(verb)])
        self.homes = pa.array([at for at, verb in enumerate(verbs) for _ in inflect(verb)])

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, self.asker))
        words = pc.split_pattern_regex(pc.utf8_lower(text), r"[^\pL\pM]+")
        verb = self.homes.take(pc.index_in(pc.list_flatten(words), value_set=self.forms))
        found = pa.table({"row": pc.list_parent_indices(words), "verb": verb}).drop_null()
        counted = found.group_by("row").aggregate([("verb", "count_distinct")])
        at = pc.index_in(pa.array(range(len(text)), pa.int64()), value_set=_whole(counted, "row"))
        number = pc.fill_null(_whole(counted, "verb_count_distinct").take(at), 0)
        number = pc.if_else(text.is_valid(), number, pa.scalar(None, number.type))
        failed = pc.less(number, self.least)
        return ScoreColumns(
            number.cast(pa.float64()), failed, explain(failed, lambda: self._say(number, failed))
        )

    def _say(self, number: Array, failed: Array) -> Array:
        said = number.filter(failed).cast(pa.string())
        return pc.binary_join_element_wise(said, f"of at least {self.least} action verbs", " ")


class NoCitations:
    """Fails a text with citation markers or bracketed references; code and matrices hold none."""

    def __init__(self, options: FieldOptions, asker: str = "check 'no_citations'") -> None:
        self.asker = asker
        self.field = require_option(options.field, "field", asker)

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, self.asker))
        reason = pa.nulls(len(text), pa.string())
        # Every marker holds a bracket, a backslash, a digit or "et al".
        likely = pc.fill_null(
            pc.match_substring_regex(
                text, r"[(\[【\\]|et al|10\.|(?i:arxiv)|\x{b9}|\x{b2}|\x{b3}|[\x{2070}-\x{2079}]"
            ),
            False,
        )
        some = pc.replace_substring_regex(cut_code(text.filter(likely)), _MATRIX, " ")
        said = pa.nulls(len(some), pa.string())
        for pattern, words in reversed(CITATIONS):
            said = pc.if_else(pc.match_substring_regex(some, pattern), words, said)
        reason = pc.replace_with_mask(reason, likely, said)
        failed = pc.if_else(text.is_valid(), reason.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reason)


class Science:
    """The preset: length, action verbs and no citations together; the first fault is the reason."""

    def __init__(self, options: ScienceOptions) -> None:
        from nexa_checks.options import ActionVerbOptions, FieldOptions, LengthOptions

        told = {"field": options.field}
        bounds = {"min_chars": options.min_chars, "min_tokens": options.min_tokens}
        tokens = {"tokens_field": options.tokens_field}
        asker = "check 'science'"
        self.parts = (
            Length(LengthOptions.model_validate({**told, **tokens, **bounds}), asker),
            ActionVerbs(ActionVerbOptions.model_validate({**told, "least": options.least}), asker),
            NoCitations(FieldOptions.model_validate(told), asker),
        )

    def score(self, table: pa.Table) -> ScoreColumns:
        found = [part.score(table) for part in self.parts]
        failed = found[0].failed
        for more in found[1:]:
            failed = pc.or_kleene(failed, more.failed)
        reasons = pc.coalesce(*[each.reasons for each in found if each.reasons is not None])
        return ScoreColumns(score_passing(failed), failed, reasons)


def inflect(verb: str) -> tuple[str, ...]:
    """The verb's forms by the rules of English spelling: compare, compares, compared, comparing."""
    if verb.endswith("e"):
        return verb, f"{verb}s", f"{verb}d", f"{verb[:-1]}ing"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb, f"{verb[:-1]}ies", f"{verb[:-1]}ied", f"{verb}ing"
    ending = "es" if verb.endswith(("s", "x", "z", "ch", "sh")) else "s"
    forms: tuple[str, ...] = (verb, f"{verb}{ending}", f"{verb}ed", f"{verb}ing")
    if verb in _DOUBLED or _DOUBLING.fullmatch(verb):
        forms += (f"{verb}{verb[-1]}ed", f"{verb}{verb[-1]}ing")
    return forms


def _whole(table: pa.Table, name: str) -> Array:
    return as_array(table[name])
