"""The accept rule: a conjunction over stored scores, pure, applied as early as its scores exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.batch import Batch
from nexa_core.engine.steps.stream import Stream, one_by_one
from nexa_core.pipeline import Pipeline
from nexa_core.records import FLAGGED, State


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on stored scores.

    `scores` are the ids it reads, `mode` how they combine (all, any, mean), `low` and `high` the
    range the value must lie in: low ≤ value < high.
    """

    name: str
    scores: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    mode: str = "all"

    def passes(self, scores: Mapping[str, pa.Array]) -> pa.Array:
        """True, False, or null where a score it needs is missing (bool, one per row)."""
        columns = [scores[name] for name in self.scores]
        if self.mode == "mean":
            total = columns[0]
            for column in columns[1:]:
                total = pc.add(total, column)
            return self._within(pc.divide(total, float(len(columns))))
        join = pc.or_kleene if self.mode == "any" else pc.and_kleene
        result = self._within(columns[0])
        for column in columns[1:]:
            result = join(result, self._within(column))
        return result

    def _within(self, values: pa.Array) -> pa.Array:
        result = pc.if_else(values.is_valid(), pa.scalar(True), pa.scalar(None, pa.bool_()))
        if self.low is not None:
            result = pc.and_kleene(result, pc.greater_equal(values, self.low))
        if self.high is not None:
            result = pc.and_kleene(result, pc.less(values, self.high))
        return result


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """The whole rule: its terms in order, and whether any flag rejects."""

    terms: tuple[Term, ...] = ()
    no_flags: bool = False
    eager: bool = True


def accept_rule_of(pipeline: Pipeline) -> AcceptRule:
    """The accept block as terms over score ids; `min_score` asks all judges together."""
    accept = pipeline.accept
    if accept is None:
        return AcceptRule()
    judges = tuple(step.id for step in pipeline.steps if step.kind == "judge")
    terms = tuple(
        Term(
            term.name,
            (term.score,) if term.score else judges,
            term.at_least,
            term.below,
            accept.consensus,
        )
        for term in accept.terms
        if term.name != "no_flags"
    )
    return AcceptRule(terms, accept.no_flags, accept.eager)


@dataclass
class AcceptEarly:
    """The stage after a scoring step: rejects rows by every term whose scores are complete by then."""

    id: str
    terms: Sequence[Term]

    def run(self, batches: Stream) -> Stream:
        return one_by_one(batches, self._reject)

    async def _reject(self, batch: Batch) -> Batch:
        for term in self.terms:
            if all(name in batch.scores for name in term.scores):
                failed = pc.fill_null(pc.invert(term.passes(batch.scores)), False)
                batch = batch.settle(failed, State.REJECTED, term.name)
        return batch


def accept_rows(batch: Batch, rule: AcceptRule) -> Batch:
    """Settle every row still under way: rejected at the first term that fails, else accepted.

    A row that lacks a score the rule needs is rejected as `unscored`.
    """
    for term in rule.terms:
        if all(name in batch.scores for name in term.scores):
            passes = term.passes(batch.scores)
        else:
            passes = pa.nulls(len(batch), pa.bool_())
        batch = batch.settle(pc.fill_null(pc.invert(passes), False), State.REJECTED, term.name)
        batch = batch.settle(passes.is_null(), State.REJECTED, "unscored")
    if rule.no_flags:
        for name, mask in batch.flags.items():
            batch = batch.settle(mask, State.REJECTED, f"{FLAGGED}{name}")
    return batch.accept()
