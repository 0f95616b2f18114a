"""The texts of answers: given ones by what they match, else prose that is a function of the request."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

__all__ = ["Answer", "find_answer", "hash_prompt", "read_answers", "uniform", "write_prose"]

_THINGS = (
    "Annealed copper",
    "The inner bearing ring",
    "A thin aluminium plate",
    "The test specimen",
    "A dry granite block",
    "The coolant in the second loop",
    "Cast iron of this grade",
    "The welded joint",
    "A column of still water",
    "The silicon wafer",
    "A slender steel beam",
    "The catalyst bed",
    "An ideal gas in the cylinder",
    "The polymer matrix",
    "A freshly ground surface",
    "The pressure sensor",
)
_FINDINGS = (
    "loses about a tenth of its stiffness when it is held above 200 degrees for an hour.",
    "expands slightly, so the gap has to be measured again before the load is applied.",
    "reaches equilibrium within a few minutes if nothing disturbs it.",
    "carries the load through shear rather than through bending.",
    "shows no sign of fatigue below a third of its yield strength.",
    "absorbs energy in proportion to the square of the amplitude.",
    "is usually described by a linear model, which holds for small strains only.",
    "must be calibrated at two temperatures, because its response is not flat.",
    "cools at a rate that depends on the difference to its surroundings.",
    "settles into a state in which the forces on it cancel.",
    "has a density that can be found by weighing it in air and in water.",
    "transfers heat mainly by conduction, and only a little by radiation.",
    "responds to the step with a delay of roughly half a second.",
    "keeps its shape as long as the stress stays within the elastic range.",
    "was examined under the microscope, and the grains were found to be uniform.",
    "behaves as expected: doubling the force doubles the extension.",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A text for requests whose prompt holds `match` (all of several), or has the hash; else for the rest."""

    text: str
    match: str | Sequence[str] | None = None
    prompt_hash: str | None = None


def hash_prompt(prompt: str) -> str:
    """The key of a prompt in an answers file: SHA-256 of its text, of messages joined by line feeds."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def read_answers(source: Path | Iterable[Answer]) -> tuple[Answer, ...]:
    """Answers as given, or from JSONL lines of `text` with `match` or `prompt_hash`.

    Raises:
        ValueError: a line is no such object.
    """
    if not isinstance(source, Path):
        return tuple(source)
    answers = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        try:
            answers.append(Answer(**json.loads(line)))
        except (ValueError, TypeError) as cause:
            raise ValueError(f"{source}:{number} is no answer: {cause}.") from cause
    return tuple(answers)


def find_answer(answers: tuple[Answer, ...], prompt: str) -> str | None:
    """The text for a prompt: by its hash, else by the first match, else the one for the rest."""
    if not answers:
        return None
    key = hash_prompt(prompt)
    for answer in answers:
        if answer.prompt_hash == key:
            return answer.text
    for answer in answers:
        wanted = (answer.match,) if isinstance(answer.match, str) else answer.match
        if wanted is not None and all(part in prompt for part in wanted):
            return answer.text
    rest = (a.text for a in answers if a.match is None and a.prompt_hash is None)
    return next(rest, None)


def write_prose(key: bytes, median_chars: int, spread: float) -> str:
    """Whole sentences, the same for the same key; lengths are log-normal about the median."""
    quantile = min(max(uniform(key), 1e-6), 1 - 1e-6)
    chars = max(1, round(median_chars * math.exp(spread * _NORMAL.inv_cdf(quantile))))
    sentences, shortest = _write_sentences()
    picks = hashlib.shake_128(key).digest(chars // shortest + 1)
    text = " ".join(map(sentences.__getitem__, picks))
    end = text.rfind(".", 0, chars)
    return text[: end + 1] if end > 0 else text[:chars]


def uniform(key: bytes) -> float:
    """A number from 0 up to 1 for a key."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64


_NORMAL = NormalDist()


@cache
def _write_sentences() -> tuple[list[str], int]:
    """One sentence for every value of a byte, and the length of the shortest with its space."""
    sentences = [f"{thing} {finding}" for thing in _THINGS for finding in _FINDINGS]
    return sentences, min(map(len, sentences)) + 1
