"""The judge step: a judge scores every row under way by asking models, each ask a call like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.batch import Batch
from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.requests import Subject
from nexa_core.engine.steps.asking import (
    fail_rows,
    flow,
    note_calls,
    rows_of,
    scatter,
    subjects_of,
)
from nexa_core.engine.steps.stream import Stream, one_by_one
from nexa_core.engine.together import Together
from nexa_core.engine.tries import Caller
from nexa_core.errors import CallFailed, Failure, JudgeError, NexaError, boundary
from nexa_core.marking import derive_nonce
from nexa_core.protocols import Judge
from nexa_core.records import Choice, Completion, Message, Score, canonical_json, mend_text

Prompt = str | tuple[Message, ...]
ASKS_PER_ROLE = 100


@dataclass
class RowAsker:
    """Asks for one row, ask after ask; the number of the ask is part of a call's identity."""

    calls: Calls | Together
    callers: Mapping[str, Caller]
    sampling: Mapping[str, Mapping[str, Any]]
    subject: Subject
    seed: int
    nonce: str
    outcomes: list[Outcome] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def roles(self) -> Sequence[str]:
        """The step's model roles, the first one asked where none is named."""
        return list(self.callers)

    async def complete(
        self, prompt: Prompt, role: str | None = None, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """A completion; raises CallFailed where there is none."""
        caller, subject = self._next(role)
        form = caller.form(self.seed, sampling=self.sampling[caller.role], schema=schema)
        request = form.fill(prompt, subject)
        (outcome,) = await self.calls.complete(caller, [request], [subject])
        return self._take(outcome)

    async def choose(
        self, prompt: Prompt, options: Sequence[str], role: str | None = None
    ) -> Choice:
        """Log-probabilities of single-token options; raises as `complete` does."""
        caller, subject = self._next(role)
        request = caller.form(self.seed, options=options).fill(prompt, subject)
        (outcome,) = await self.calls.choose(caller, [request], [subject], options)
        return self._take(outcome)

    def _next(self, role: str | None) -> tuple[Caller, Subject]:
        name = role or self.roles[0]
        # Each role has numbers of its own, so that roles may be asked side by side.
        number = ASKS_PER_ROLE * self.roles.index(name) + self.asked[name]
        self.asked[name] += 1
        return self.callers[name], self.subject._replace(ask=number)

    def _take(self, outcome: Outcome) -> Any:
        self.outcomes.append(outcome)
        if outcome.error is not None:
            raise CallFailed(Failure.BAD_REPLY, outcome.error)
        return outcome.reply


@dataclass(frozen=True)
class SeatedJudge:
    """A judge with whom it asks, how they sample, and the seed that its requests' seeds follow from."""

    id: str
    judge: Judge
    callers: Mapping[str, Caller]
    sampling: Mapping[str, Mapping[str, Any]]
    seed: int

    def asker(self, calls: Calls | Together, subject: Subject) -> RowAsker:
        """Asks for one row; its nonce is the same whenever this judge judges that row."""
        nonce = derive_nonce(self.seed, subject.source_id, subject.sample, self.id)
        return RowAsker(calls, self.callers, self.sampling, subject, self.seed, nonce)

    async def score(self, row: Mapping[str, Any], ask: RowAsker) -> tuple[Score, str | None]:
        """The score, or why the row has none: a call that failed, or a judge that did."""
        try:
            with boundary(JudgeError, f"The judge '{self.id}'"):
                return _require_share(await self.judge.score(row, ask)), None
        except JudgeError as error:
            failed = error.__cause__
            if isinstance(failed, NexaError):
                raise failed from None
            if ask.calls.only_known:
                return Score(None), None
            return Score(None), str(failed or error)


def _require_share(score: Score) -> Score:
    """A judge's score as it must be: a number from 0 to 1, or none."""
    if score.value is not None and not 0 <= score.value <= 1:
        raise ValueError(f"it scored {score.value:g}, and a score is a number from 0 to 1")
    return score


@dataclass
class JudgeRows:
    """Adds a score, flags, and the columns `<id>_reason` and `<id>_criteria` (JSON)."""

    id: str
    calls: Calls
    seated: SeatedJudge

    @property
    def caller(self) -> Caller | None:
        """Who is asked first; None for a judge that asks no model."""
        return next(iter(self.seated.callers.values()), None)

    def run(self, batches: Stream) -> Stream:
        if self.caller is None:
            return one_by_one(batches, self._judge)
        callers = self.seated.callers.values()
        # One role with a provider's batches is reason enough to take the whole shard together.
        return flow(next((c for c in callers if c.is_batched), self.caller), batches, self._judge)

    async def _judge(self, batch: Batch) -> Batch:
        indices = batch.alive_positions()
        rows, subjects = rows_of(batch, indices), subjects_of(batch, indices)
        together = Together(self.calls)
        askers = [self.seated.asker(together, subject) for subject in subjects]
        pairs = await together.run(map(self.seated.score, rows, askers))
        scores = [score for score, _ in pairs]
        batch = self._with_scores(batch, indices, scores)
        if self.caller is not None:
            batch = note_calls(batch, self.caller, indices, [ask.outcomes for ask in askers])
        return fail_rows(batch, self.id, indices, [error for _, error in pairs])

    def _with_scores(self, batch: Batch, indices: np.ndarray, scores: Sequence[Score]) -> Batch:
        def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
            return scatter(values, indices, len(batch), kind)

        values = [score.value for score in scores]
        reasons = [mend_text(score.reason) or None for score in scores]
        criteria = [canonical_json(dict(s.criteria)) if s.criteria else None for s in scores]
        batch = batch.with_score(self.id, column(values, pa.float64()))
        batch = batch.with_column(f"{self.id}_reason", column(reasons, pa.string()))
        batch = batch.with_column(f"{self.id}_criteria", column(criteria, pa.string()))
        for name in sorted({flag for score in scores for flag in score.flags}):
            raised = column([name in score.flags for score in scores], pa.bool_())
            before = batch.flags.get(name)
            merged = raised if before is None else pc.or_kleene(before, pc.fill_null(raised, False))
            batch = batch.with_flag(name, merged)
        return batch
