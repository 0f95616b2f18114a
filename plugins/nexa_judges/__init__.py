"""Judges: methods by which models score a row, and the rubrics that ship with nexa."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexa_core import JudgeSpec, hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nexa_core import Judge, JudgeOrder


@hookimpl
def register_judges() -> Iterable[JudgeSpec]:
    """The methods that `- judge: {method: …}` names."""
    return [
        JudgeSpec("rubric", "Criteria scored 0 to 1, reason first; the lowest counts", _rubric),
        JudgeSpec(
            "pairwise", "Better than another column's answer, in both orders", _pairwise, _pair
        ),
    ]


def _rubric(order: JudgeOrder) -> Judge:
    from nexa_judges.rubric import RubricJudge

    return RubricJudge(order)


def _pairwise(order: JudgeOrder) -> Judge:
    from nexa_judges.pairwise import PairwiseJudge

    return PairwiseJudge(order)


def _pair() -> type[BaseModel]:
    from nexa_judges.pairwise import PairOptions

    return PairOptions
