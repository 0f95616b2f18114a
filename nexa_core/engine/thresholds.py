"""What a run would have kept at other thresholds: counted from stored scores, with no call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.steps.accepting import AcceptRule, Term
from nexa_core.records import State

__all__ = ["Thresholds"]

GRID = tuple(n / 20 for n in range(21))
"""The thresholds that are tried for scores between 0 and 1; for others, those that part tenths."""


@dataclass
class Thresholds:
    """Counts, over tables of rows, how many would be accepted if one term asked for more or less.

    A row counts where it passes every other term. Rows that lack another score, because they were
    rejected before they had it, are counted apart as `unknown`.
    """

    rule: AcceptRule
    rows: int = 0
    accepted: int = 0
    _known: dict[str, list[Any]] = field(default_factory=dict)
    _unknown: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def terms(self) -> list[Term]:
        """The terms that have a lower bound to move."""
        return [term for term in self.rule.terms if term.low is not None and term.scores]

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table, as shards hold them."""
        self.rows += len(table)
        states = table["state"]
        good = pc.is_in(states, value_set=pa.array([State.ACCEPTED.value, State.SURPLUS.value]))
        self.accepted += pc.sum(good).as_py() or 0
        ours = [*(term.name for term in self.rule.terms), "unscored"]
        reasons = pc.fill_null(table["reason"], "")
        flagged = pc.starts_with(reasons, "flag: ")
        open_rows = pc.or_(good, pc.or_(flagged, pc.is_in(reasons, value_set=pa.array(ours))))
        open_rows = pc.and_(open_rows, pc.not_equal(states, State.FAILED.value))
        table = table.filter(open_rows)
        scores = _scores(table)
        for term in self.terms:
            if all(name in scores for name in term.scores):
                self._add_term(term, scores, pc.starts_with(
                    pc.fill_null(table["reason"], ""), "flag: "
                ))  # fmt: skip

    def _add_term(self, term: Term, scores: dict[str, pa.Array], flagged: Any) -> None:
        values = _value(term, scores)
        others = pa.array(np.ones(len(values), bool))
        for other in (each for each in self.rule.terms if each is not term):
            if all(name in scores for name in other.scores):
                others = pc.and_kleene(others, other.passes(scores))
            else:
                others = pc.and_kleene(others, pa.nulls(len(values), pa.bool_()))
        within = pc.less(values, term.high) if term.high is not None else pc.is_valid(values)
        within = pc.and_(pc.fill_null(within, False), pc.invert(_one(flagged)))
        passing = pc.and_(within, pc.fill_null(others, False))
        open_ = pc.and_(within, pc.is_null(others))
        self._known.setdefault(term.name, []).append(values.filter(passing).to_numpy())
        self._unknown.setdefault(term.name, []).append(values.filter(open_).to_numpy())

    def as_json(self) -> list[dict[str, Any]]:
        """One line per term and threshold: accepted rows, their share, rows that nobody can tell."""
        return [line for term in self.terms for line in self._lines(term)]

    def _lines(self, term: Term) -> Iterator[dict[str, Any]]:
        known = np.sort(np.concatenate(self._known.get(term.name) or [np.empty(0)]))
        unknown = np.sort(np.concatenate(self._unknown.get(term.name) or [np.empty(0)]))
        for threshold in _steps(known, unknown, term.low or 0.0):
            kept = len(known) - int(np.searchsorted(known, threshold))
            open_ = len(unknown) - int(np.searchsorted(unknown, threshold))
            yield {
                "term": term.name,
                "at_least": threshold,
                "now": threshold == term.low,
                "accepted": kept,
                "share": kept / self.rows if self.rows else 0.0,
                "unknown": open_,
            }


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
