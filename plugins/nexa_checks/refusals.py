"""How refusals start, in English: the list that the `refusal` check ships with.

An opening has to say that *the writer* cannot or will not answer: "I'm sorry to hear that" and
"I can't believe it" are no refusals, while a letter that opens "Unfortunately, I cannot attend"
is taken for one. Assembled from the refusal prefixes of Zou et al. 2023 (arXiv:2307.15043,
appendix), narrowed by what follows them.
"""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column, as_array
from nexa_checks.predicates import require_pattern
from nexa_checks.scans import find_first_bytes, mask_nulls

_I_AM = r"i(?: am|['’]?m)"
_CANNOT = r"(?:can(?:not| not|['’]?t)|could(?: not|n['’]t)|will not|won['’]t)"
_DEED = (
    r"(?:\w+ly )?(?:help|assist|answer|provide|fulfil|comply|create|generate|write|produce|offer"
    r"|give|share|discuss|engage|support|complete|process|do (?:that|this)|access|browse|recommend)"
)
_MACHINE = (
    r"an? (?:ai|artificial intelligence|(?:large )?language model|(?:virtual|digital) assistant)\b"
)

_APOLOGY = (
    rf"(?:{_I_AM} (?:\w+ )?(?:sorry|afraid)|sorry|(?:my )?apologies|i apologi[sz]e|unfortunately"
    r"|regrettably)(?: for (?:the|any) \w+)?[,.!:;*_]*\s+(?:(?:but|that|however)[, *_]+)*"
)
_REFUSING = (
    rf"(?:i (?:{_CANNOT}|do(?: not|n['’]t)|must|have to)|{_I_AM} (?:not|unable)"
    r"|it(?: is|['’]s) not)\b"
)
_UNABLE = rf"{_I_AM} (?:unable|not (?:able|allowed|permitted|programmed|designed|going)) to"

OPENINGS = (
    _APOLOGY + _REFUSING,
    rf"(?:i {_CANNOT}|{_UNABLE}) {_DEED}",
    rf"(?:as|{_I_AM})(?: just| only| merely)? {_MACHINE}",
    rf"{_I_AM} not comfortable\b",
    r"i (?:must|have to|need to) (?:respectfully |politely )?(?:decline|refuse)\b",
    r"i do(?: not|n['’]t) have (?:the (?:cap)?ability|access|personal|real-?time)\b",
    r"it(?: is|['’]s) (?:not (?:appropriate|ethical|possible)|inappropriate|unethical) for me to\b",
    r"(?:this|your) request (?:violates|goes against)\b",
)
"""Each is tried where the text starts, after white space, quotes and Markdown marks."""

_FIRST_TWO = ("i ", "i'", "im", "it", "as", "so", "my", "ap", "un", "re", "th", "yo")
"""How the openings begin, where that is ASCII."""
_LEAD = r"[\s\pZ\"'“‘>*_#-]*"
_SHIPPED = re.compile(rf"[\s\"'“‘>*_#-]*(?:{'|'.join(OPENINGS)})", re.IGNORECASE)


def _mark_first_bytes() -> npt.NDArray[np.bool_]:
    """For each two bytes that a text may begin with, the first as the high one: can it refuse?

    What begins with a sign, or holds a byte beyond ASCII, may.
    """
    may = np.zeros((256, 256), bool)
    may[[byte for byte in range(256) if not chr(byte).isalnum() or byte >= 128]] = True
    may[:, 128:] = True
    for pair in _FIRST_TWO:
        for first, second in product(*({sign, sign.upper()} for sign in pair)):
            may[ord(first), ord(second)] = True
    return may.ravel()


_MAY_OPEN = _mark_first_bytes()


class Openings:
    """Recognises texts that start in one of the ways given, or in one of the shipped ones.

    Raises:
        UsageError: A pattern that is given is none to RE2.
    """

    def __init__(self, patterns: tuple[str, ...] | None, asker: str) -> None:
        for pattern in patterns or ():
            require_pattern(pattern, asker)
        self._given = patterns and rf"(?i)\A{_LEAD}(?:{'|'.join(f'(?:{p})' for p in patterns)})"

    def start(self, text: Column) -> Array:
        """Where the text starts so; null where there is none."""
        if self._given:
            return as_array(pc.match_substring_regex(text, self._given))
        return _start_as_shipped(text)


def _start_as_shipped(text: Column) -> Array:
    return as_array(pa.chunked_array([_match_chunk(chunk) for chunk in text.chunks], pa.bool_()))


def _match_chunk(chunk: Array) -> Array:
    """The first two bytes, then every opening for the few rows that begin with such two.

    RE2 would take a millisecond per call to compile all openings, which is longer than it needs
    to match a thousand texts; Python keeps them compiled.
    """
    rows, pairs = find_first_bytes(chunk)
    rows = rows[_MAY_OPEN[pairs]]
    found = np.zeros(len(chunk), bool)
    texts = chunk.take(pa.array(rows)).to_pylist()
    found[rows] = [_SHIPPED.match(text or "") is not None for text in texts]
    return pa.array(found, mask=mask_nulls(chunk))
