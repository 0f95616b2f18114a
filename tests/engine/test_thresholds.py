"""Deciding again: yields at other thresholds, attempts, flags, and what only calls could tell."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from nexa_core.actions.reaccepting import NOT_MADE, decide_again, later_checks
from nexa_core.engine.steps.accepting import AcceptRule, Term
from nexa_core.engine.thresholds import Thresholds
from nexa_core.pipeline import from_resolved


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
    decided = decide_again(table, rule, ("a", "b"))
    return pa.table({**{n: table[n] for n in ("id", "scores")}, "state": decided.state,
                     "reason": decided.reason})  # fmt: skip


def decide(table: pa.Table, rule: AcceptRule) -> int:
    decided = decide_again(table, rule, ("a", "b"))
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


def make_attempts() -> pa.Table:
    """Four questions, tried at most twice at 0.8: (score of each attempt, flags)."""
    attempts: list[tuple[str, int, float, str, list[str]]] = [
        ("q0", 0, 0.9, "accepted", []),
        ("q1", 0, 0.6, "rejected", []),
        ("q1", 1, 0.85, "accepted", []),
        ("q2", 0, 0.7, "rejected", ["safety"]),
        ("q2", 1, 0.3, "rejected", []),
        ("q3", 0, 0.95, "rejected", ["safety"]),
        ("q3", 1, 0.5, "rejected", []),
    ]
    rows = [
        {
            "id": f"{source}~{attempt}",
            "source_id": source,
            "sample": 0,
            "attempt": attempt,
            "scores": {"a": score},
            "flags": flags,
            "state": state,
            "reason": None
            if state == "accepted"
            else ("flag: safety" if score >= 0.8 else "min_score"),
        }
        for source, attempt, score, state, flags in attempts
    ]
    return pa.Table.from_pylist(rows)


def decide_at(threshold: float, no_flags: bool) -> list[str]:
    rule = AcceptRule((Term("min_score", ("a",), threshold),), no_flags)
    return decide_again(make_attempts(), rule, ("a",)).state.to_pylist()


def test_of_several_attempts_one_counts() -> None:
    """A second attempt is not made where the first would have been taken."""
    assert decide_at(0.8, True).count("accepted") == 2
    assert decide_at(0.5, True) == [
        *("accepted", "accepted", NOT_MADE, "rejected", "rejected", "rejected", "accepted")
    ]


def test_flags_decide_again_too() -> None:
    """A row that a flag rejected is taken where flags do not count, and only there."""
    assert decide_at(0.8, True)[5] == "rejected"
    assert decide_at(0.8, False)[5:] == ["accepted", NOT_MADE]
    assert decide_at(0.7, True)[3] == "rejected" and decide_at(0.7, False)[3] == "accepted"


def test_the_table_counts_attempts_and_flags_as_deciding_does() -> None:
    """For every threshold; those that would be tried again are told apart."""
    for no_flags in (True, False):
        found = Thresholds(AcceptRule((Term("min_score", ("a",), 0.8),), no_flags), attempts=1)
        found.add(make_attempts())
        lines = found.as_json()
        assert [line["accepted"] for line in lines] == [
            decide_at(line["at_least"], no_flags).count("accepted") for line in lines
        ]
        assert max(line["share"] for line in lines) <= 1
        at_9 = next(line for line in lines if line["at_least"] == 0.95)
        assert at_9["unknown"] == 1  # q0 would be asked again


def test_checks_after_the_judges_have_not_seen_what_they_rejected() -> None:
    """The duplicates check comes last; the check before the judge saw every row."""
    steps = [
        {"check": ["empty"]},
        {"judge": {"id": "j", "method": "mine"}},
        {"check": ["near_duplicates"]},
    ]
    written = {"nexa": 1, "name": "n", "source": {"path": "rows.jsonl"}, "steps": steps}
    pipeline = from_resolved({**written, "accept": {"min_score": 0.5}})
    assert later_checks(pipeline) == ("near_duplicates",)
