"""Scorers: what counts as right, and what does not by accident."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexa_core import Completion
from nexa_eval.options import AnswerOptions
from nexa_eval.scorers import Contains, Exact, LastNumber


def score(scorer: Any, answer: Any, text: str, **options: Any) -> float | None:
    made = scorer(AnswerOptions(**options))
    return asyncio.run(made.score({"answer": answer}, Completion(text))).value


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("Cu", "The chemical symbol of copper is Cu.", True),
        ("He", "The symbol of helium is H.", False),
        ("he", "The symbol of helium is He.", True),
        ("9", "The atomic number is 19.", False),
        ("9", "It is 9.", True),
        ("9", "It is 9.5.", False),
        ("4.0", "It weighs 14.0 u.", False),
        ("4.0", "It weighs 4.0 u.", True),
        ("kilogram  metre", "It is the Kilogram\u00a0metre.", True),
        ("C++", "Write it in C++, please.", True),
        (["joule", "J"], "The unit is J.", True),
    ],
)
def test_contains_wants_whole_words(answer: Any, text: str, right: bool) -> None:
    """The answer must stand in the text as words of its own; case, width and spacing do not matter."""
    assert score(Contains, answer, text) == float(right)


def test_only_the_first_line_counts() -> None:
    """A base model that rambles is judged by its first line that holds anything, unless asked."""
    text = "\n  It is Cu.\nResponse: It is Fe."
    assert score(Contains, "Cu", text) == 1.0
    assert score(Contains, "Fe", text) == 0.0
    assert score(Contains, "Fe", text, lines="all") == 1.0
    assert score(Contains, "Fe", "") == 0.0


@pytest.mark.parametrize(
    ("scorer", "answer", "text", "right"),
    [
        (Exact, "the joule", "The joule.", True),
        (Exact, "joule", "The joule.", False),
        (LastNumber, "#### 1,234", "So 2 x 617 = 1234", True),
        (LastNumber, "18", "18 J in 3 s", False),
        (LastNumber, "0.50", "It is .5", True),
        (LastNumber, "3", "none", False),
    ],
)
def test_exact_and_last_number(scorer: Any, answer: str, text: str, right: bool) -> None:
    """Exact compares words; last_number compares values, however they are written."""
    assert score(scorer, answer, text) == float(right)


def test_an_item_without_an_answer_is_an_error() -> None:
    """Nothing is right or wrong where there is no answer."""
    with pytest.raises(ValueError, match="no 'answer'"):
        score(Contains, None, "text")
