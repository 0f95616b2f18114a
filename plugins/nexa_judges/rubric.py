"""The rubric judge: criteria scored 0 to 1 with anchors, the lowest of them counts; panels and cascades."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence

from nexa_core import Asker, JudgeOrder, Row, Score
from nexa_judges.asking import ask_verdict, write_messages
from nexa_judges.verdicts import Verdicts

__all__ = ["RubricJudge"]

_COMBINE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "lowest": min,
    "mean": statistics.fmean,
    "median": statistics.median,
}


class RubricJudge:
    """Asks every role of its panel; a dearer one only where their score lies near the threshold.

    The dearer one is also asked where nobody's reply could be read. A row that nobody could score has
    no value: nothing is invented.
    """

    def __init__(self, order: JudgeOrder) -> None:
        assert order.rubric is not None
        self._order, self._criteria = order, tuple(order.rubric.criteria)
        self._verdicts = Verdicts(dict.fromkeys(self._criteria), tuple(order.rubric.flags))

    async def score(self, row: Row, ask: Asker) -> Score:
        """The panel's score, or the dearer role's."""
        roles = list(ask.roles)
        dearer = roles.pop() if self._order.escalate is not None else None
        # Not a task group: one call that failed must not cancel one that is paid for.
        found = await asyncio.gather(
            *(self._judge(row, ask, role) for role in roles), return_exceptions=True
        )
        for each in found:
            if isinstance(each, BaseException):
                raise each
        score = self._combine([each for each in found if isinstance(each, Score)])
        if dearer is not None and self._is_near(score):
            return await self._judge(row, ask, dearer)
        return score

    async def _judge(self, row: Row, ask: Asker, role: str) -> Score:
        messages = write_messages(self._order, row, ask.nonce)
        verdict, problem = await ask_verdict(messages, self._verdicts, ask, role)
        if verdict is None:
            return Score(None, f"no valid reply: {problem}")
        criteria = {name: float(verdict[name]) for name in self._criteria}
        flags = tuple(dict.fromkeys(verdict.get("flags", ())))
        return Score(min(criteria.values()), verdict["reason"], flags, criteria)

    def _is_near(self, score: Score) -> bool:
        assert self._order.escalate is not None
        low, high = self._order.escalate
        return score.value is None or low <= score.value <= high

    def _combine(self, scores: Sequence[Score]) -> Score:
        if len(scores) == 1:
            return scores[0]
        values = [score.value for score in scores]
        known = [value for value in values if value is not None]
        reason = "\n".join(score.reason for score in scores)
        flags = tuple(dict.fromkeys(flag for score in scores for flag in score.flags))
        if len(known) < len(values):  # a panel with an empty chair has not judged
            return Score(None, reason, flags)
        combine = _COMBINE[self._order.combine]
        criteria = {
            name: combine([score.criteria[name] for score in scores]) for name in scores[0].criteria
        }
        return Score(combine(known), reason, flags, criteria)
