"""The pairwise judge: is the answer better than another column's, asked in both orders."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from nexa_core import Asker, JudgeOrder, Row, Score
from nexa_judges.asking import ask_verdict, write_messages
from nexa_judges.verdicts import Verdicts

__all__ = ["PairOptions", "PairwiseJudge"]


class PairOptions(BaseModel):
    """`against` is the column that holds the other answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: str = Field(json_schema_extra={"column": True})


class PairwiseJudge:
    """1 where the answer wins in both orders, 0 where it loses in both, else 0.5.

    A judge that prefers a place and not an answer says nothing (Zheng et al. 2023, position bias);
    such rows have the flag `position_bias`.
    """

    def __init__(self, order: JudgeOrder) -> None:
        self._order = order
        self._verdicts = Verdicts({"winner": ("A", "B", "tie")})

    async def score(self, row: Row, ask: Asker) -> Score:
        """The score over both orders; no value where one of them could not be read."""
        answer = str(row.get(self._order.answer) or "")
        other = str(row.get(self._order.options.against) or "")
        first = await self._ask(row, ask, answer, other)
        second = await self._ask(row, ask, other, answer)
        if first is None or second is None:
            return Score(None, "no valid reply in one of the orders")
        points = {"A": 1.0, "tie": 0.5, "B": 0.0}
        forward, backward = points[first[0]], 1.0 - points[second[0]]
        flags = ("position_bias",) if abs(forward - backward) == 1.0 else ()
        value = 0.5 if flags else (forward + backward) / 2
        return Score(
            value, f"{first[1]}\n{second[1]}", flags, {"forward": forward, "backward": backward}
        )

    async def _ask(self, row: Row, ask: Asker, a: str, b: str) -> tuple[str, str] | None:
        messages = write_messages(self._order, row, ask.nonce, {"a": a, "b": b})
        verdict, _ = await ask_verdict(messages, self._verdicts, ask, ask.roles[0])
        return None if verdict is None else (verdict["winner"], verdict["reason"])
