"""What a run would have kept at other thresholds: counted from stored scores, with no call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.steps.accepting import AcceptRule, Term
from nexa_core.records import FLAGGED, State

__all__ = ["Thresholds", "is_flagged", "number_questions"]

GRID = tuple(n / 20 for n in range(21))
"""The thresholds that are tried for scores between 0 and 1; for others, those that part tenths."""
_NOTHING = -np.inf


@dataclass
class Thresholds:
    """Counts, over tables of rows, how many would be accepted if one term asked for more or less.

    A row counts where it passes every other term and has no flag that rejects; of several attempts at
    one answer one counts, as the run would not have made another. `unknown` are those that nobody can
    tell without a call: rows that lack another score, because they were rejected before they had it, and
    rows that would be tried again (`attempts` is how often a run does that).
    """

    rule: AcceptRule
    attempts: int = 0
    rows: int = 0
    _known: dict[str, list[Any]] = field(default_factory=dict)
    _open: dict[str, list[Any]] = field(default_factory=dict)
    _again: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def terms(self) -> list[Term]:
        """The terms that have a lower bound to move."""
        return [term for term in self.rule.terms if term.low is not None and term.scores]

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table, as shards hold them; attempts at one answer are in one table."""
        question, attempt = number_questions(table)
        self.rows += int(question.max(initial=-1)) + 1
        states = table["state"]
        good = pc.is_in(states, value_set=pa.array([State.ACCEPTED.value, State.SURPLUS.value]))
        ours = [*(term.name for term in self.rule.terms), "unscored"]
        reasons = pc.fill_null(table["reason"], "")
        flagged = pc.starts_with(reasons, FLAGGED)
        rows = pc.or_(good, pc.or_(flagged, pc.is_in(reasons, value_set=pa.array(ours))))
        rows = pc.and_(rows, pc.not_equal(states, State.FAILED.value))
        if self.rule.no_flags:
            rows = pc.and_(rows, pc.invert(is_flagged(table)))
        chosen = _one(rows).to_numpy(zero_copy_only=False)
        table, question, attempt = table.filter(rows), question[chosen], attempt[chosen]
        scores = _scores(table)
        for term in self.terms:
            if all(name in scores for name in term.scores):
                self._add_term(term, scores, question, attempt < self.attempts)

    def _add_term(
        self, term: Term, scores: dict[str, pa.Array], question: Any, has_tries: Any
    ) -> None:
        values = _value(term, scores)
        others = pa.array(np.ones(len(values), bool))
        for other in (each for each in self.rule.terms if each is not term):
            if all(name in scores for name in other.scores):
                others = pc.and_kleene(others, other.passes(scores))
            else:
                others = pc.and_kleene(others, pa.nulls(len(values), pa.bool_()))
        within = pc.less(values, term.high) if term.high is not None else pc.is_valid(values)
        within = pc.fill_null(within, False)
        passing = _mask(pc.and_(within, pc.fill_null(others, False)))
        open_ = _mask(pc.and_(within, pc.is_null(others)))
        found = pc.fill_null(values, _NOTHING).to_numpy(zero_copy_only=False)
        known, hoped = (_highest(found, mask, question) for mask in (passing, open_))
        self._known.setdefault(term.name, []).append(known[known > _NOTHING])
        hoped = np.stack([np.minimum(known, hoped), hoped], axis=1)
        self._open.setdefault(term.name, []).append(hoped[hoped[:, 1] > _NOTHING])
        # Who was taken at once, and would be tried again where the threshold is higher.
        taken = passing & (found >= (term.low or 0.0)) & has_tries
        self._again.setdefault(term.name, []).append(found[taken])

    def as_json(self) -> list[dict[str, Any]]:
        """One line per term and threshold: accepted rows, their share, rows that nobody can tell."""
        return [line for term in self.terms for line in self._lines(term)]

    def _lines(self, term: Term) -> Iterator[dict[str, Any]]:
        known = np.sort(np.concatenate(self._known.get(term.name) or [np.empty(0)]))
        hoped = np.concatenate(self._open.get(term.name) or [np.empty((0, 2))])
        again = np.concatenate(self._again.get(term.name) or [np.empty(0)])
        for threshold in _steps(known, hoped[:, 1], term.low or 0.0):
            kept = len(known) - int(np.searchsorted(known, threshold))
            either = (hoped[:, 0] < threshold) & (hoped[:, 1] >= threshold)
            yield {
                "term": term.name,
                "at_least": threshold,
                "now": threshold == term.low,
                "accepted": kept,
                "share": kept / self.rows if self.rows else 0.0,
                "unknown": int(np.sum(either)) + int(np.sum(again < threshold)),
            }


def number_questions(table: pa.Table) -> tuple[Any, Any]:
    """The number, from 0, of what each row answers (source row and sample), and its attempt; int64.

    Rows of a table without these columns are each the only answer.
    """
    rows, names = len(table), table.column_names
    if "source_id" not in names or "sample" not in names or "attempt" not in names:
        return np.arange(rows), np.zeros(rows, np.int64)
    source = _one(table["source_id"]).dictionary_encode().indices.to_numpy().astype(np.int64)
    sample, attempt = (table[n].to_numpy().astype(np.int64) for n in ("sample", "attempt"))
    key = source * (sample.max(initial=0) + 1) + sample
    return np.unique(key, return_inverse=True)[1].reshape(-1), attempt


def is_flagged(table: pa.Table, name: str | None = None) -> pa.Array:
    """Where a row has any flag, or that of a name."""
    found = np.zeros(len(table), bool)
    flags = _one(table["flags"]) if "flags" in table.column_names else None
    if flags is not None and not pa.types.is_null(flags.type.value_type):
        raised = pc.list_parent_indices(flags)
        if name is not None:
            raised = raised.filter(pc.equal(pc.list_flatten(flags), name))
        found[raised.to_numpy()] = True
    return pa.array(found)


def _highest(values: Any, mask: Any, question: Any) -> Any:
    """The highest value under the mask of each question; nothing where it has none."""
    best = np.full(int(question.max(initial=-1)) + 1, _NOTHING)
    np.maximum.at(best, question[mask], values[mask])
    return best


def _mask(values: Any) -> Any:
    return _one(values).to_numpy(zero_copy_only=False)


def _steps(known: Any, unknown: Any, now: float) -> Sequence[float]:
    values = np.concatenate([known, unknown])
    if not len(values):
        return [now]
    if values.min() >= 0 and values.max() <= 1 and 0 <= now <= 1:
        near = [step for step in GRID if values.min() - 0.05 <= step]
        return sorted({*near, now})
    tenths = np.quantile(values, [n / 10 for n in range(10)])
    return sorted({*(float(f"{each:.3g}") for each in tenths), now})


def _value(term: Term, scores: dict[str, pa.Array]) -> pa.Array:
    """What the term compares with its bound: the lowest, highest or mean of its scores."""
    columns = [scores[name] for name in term.scores]
    if len(columns) == 1:
        return columns[0]
    if term.mode == "mean":
        total = columns[0]
        for column in columns[1:]:
            total = pc.add(total, column)
        return pc.divide(total, float(len(columns)))
    if term.mode == "any":
        return pc.max_element_wise(*columns)
    return pc.min_element_wise(*columns, skip_nulls=False)


def _scores(table: pa.Table) -> dict[str, pa.Array]:
    column = _one(table["scores"])
    return {each.name: pc.struct_field(column, each.name) for each in column.type}


def _one(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
