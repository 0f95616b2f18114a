"""Scorers for items with one right answer: deterministic, and the same for every arm."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from nexa_core import Score

if TYPE_CHECKING:
    from nexa_core import Completion, Row
    from nexa_eval.options import AnswerOptions

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


class _AnswerScorer(ABC):
    """Reads the prediction and the right answers; 1.0 when any of them is met, else 0.0."""

    def __init__(self, options: AnswerOptions) -> None:
        self._options = options

    async def score(self, item: Row, prediction: Completion) -> Score:
        """Whether the prediction is right.

        Raises:
            ValueError: The item has no answer.
        """
        text = read_prediction(prediction.text, self._options.lines)
        right = any(self._meets(answer, text) for answer in self._answers(item))
        return Score(1.0 if right else 0.0, text)

    def _answers(self, item: Row) -> list[str]:
        name = self._options.answer
        found = item.get(name)
        answers = found if isinstance(found, list | tuple) else [found]
        if not answers or any(answer is None or not str(answer).strip() for answer in answers):
            raise ValueError(f"the item has no '{name}'")
        return [str(answer) for answer in answers]

    @abstractmethod
    def _meets(self, answer: str, text: str) -> bool:
        """Whether a text gives this answer."""


class Contains(_AnswerScorer):
    """The answer stands in the text as whole words: `9` is not in `19`, nor `He` in `the`."""

    def _meets(self, answer: str, text: str) -> bool:
        wanted = re.escape(fold(answer))
        return re.search(rf"(?<![\w.]){wanted}(?!\w|\.\d)", fold(text)) is not None


class Exact(_AnswerScorer):
    """Answer and text have the same words in the same order."""

    def _meets(self, answer: str, text: str) -> bool:
        return re.findall(r"\w+", fold(answer)) == re.findall(r"\w+", fold(text))


class LastNumber(_AnswerScorer):
    """The last number in the text equals the last in the answer; commas group digits."""

    def _meets(self, answer: str, text: str) -> bool:
        wanted, given = find_last_number(answer), find_last_number(text)
        return wanted is not None and wanted == given


def fold(text: str) -> str:
    """The text without differences of case, width or spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_last_number(text: str) -> Decimal | None:
    """The last number written in a text, None where there is none."""
    numbers = _NUMBER.findall(text)
    try:
        return Decimal(numbers[-1].replace(",", "")) if numbers else None
    except InvalidOperation:
        return None


def read_prediction(text: str, lines: str) -> str:
    """What counts of a prediction: its first line that holds anything, or all of it."""
    if lines == "all":
        return text.strip()
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
