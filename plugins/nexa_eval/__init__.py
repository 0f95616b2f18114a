"""Scorers of predictions that have one right answer: `evaluate: {scorer: contains}`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nexa_core import ScorerSpec, hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel


@hookimpl
def register_scorers() -> Iterable[ScorerSpec]:
    """The scorers."""
    return [
        ScorerSpec(
            "contains",
            "The answer stands in the prediction, as whole words",
            _build("Contains"),
            _options,
        ),
        ScorerSpec(
            "exact", "The prediction is the answer, case and marks aside", _build("Exact"), _options
        ),
        ScorerSpec(
            "last_number",
            "The last number of the prediction is the answer's",
            _build("LastNumber"),
            _options,
        ),
    ]


def _build(name: str) -> Any:
    def build(options: Any) -> Any:
        from nexa_eval import scorers

        return getattr(scorers, name)(options)

    return build


def _options() -> type[BaseModel]:
    from nexa_eval.options import AnswerOptions

    return AnswerOptions
