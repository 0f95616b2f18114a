"""Yields at other thresholds: what the table says is what deciding again gives."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from nexa_core.actions.reviewing import decide_again
from nexa_core.engine.steps.accepting import AcceptRule, Term
from nexa_core.engine.thresholds import Thresholds


def make_table(rule: AcceptRule) -> pa.Table:
    """Rows with two scores, some never scored by the second, decided by the rule."""
    draw = random.Random(5)
    rows: list[dict[str, Any]] = []
    for n in range(400):
        first = round(draw.random(), 2)
        second = None if first < 0.3 else round(draw.random(), 2)
        rows.append({"id": str(n), "scores": {"a": first, "b": second}, "state": "accepted"})
    rows += [{"id": "x", "scores": {"a": None, "b": None}, "state": "rejected", "reason": "empty"}]
    rows += [{"id": "y", "scores": {"a": None, "b": None}, "state": "failed", "reason": "500"}]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("scores", pa.struct([("a", pa.float64()), ("b", pa.float64())])),
            ("state", pa.string()),
            ("reason", pa.string()),
        ]
    )
    table = pa.Table.from_pylist(rows, schema)
    decided, _ = decide_again(table, rule, ("a", "b"))
    return pa.table({**{n: table[n] for n in ("id", "scores")}, "state": decided.state,
                     "reason": decided.reason})  # fmt: skip


def decide(table: pa.Table, rule: AcceptRule) -> int:
    decided, _ = decide_again(table, rule, ("a", "b"))
    return decided.state.to_pylist().count("accepted")


def test_the_table_agrees_with_deciding_again() -> None:
    """For every threshold of every term, and every way to combine, the count is that of the rule."""
    rules = [AcceptRule((Term("a", ("a",), 0.5), Term("b", ("b",), 0.4)))]
    rules += [
        AcceptRule((Term("min_score", ("a", "b"), 0.5, None, mode),))
        for mode in ("all", "any", "mean")
    ]
    for rule in rules:
        table = make_table(rule)
        found = Thresholds(rule)
        found.add(table)
        lines = found.as_json()
        assert len(lines) > 10
        assert sum(line["now"] for line in lines) == len(rule.terms)
        for line in lines:
            terms = tuple(
                Term(t.name, t.scores, line["at_least"], t.high, t.mode)
                if t.name == line["term"]
                else t
                for t in rule.terms
            )
            assert line["accepted"] == decide(table, AcceptRule(terms)), (rule, line)
