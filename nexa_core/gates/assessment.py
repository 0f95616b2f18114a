"""What a measurement proves about a rule: PASS, FAIL or nothing yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nexa_core import stats
from nexa_core.gates.rules import Gate, Rule
from nexa_core.records import GateCheck, Verdict

__all__ = [
    "Count",
    "Look",
    "Tally",
    "assess",
    "assess_gate",
    "assess_slices",
    "count_rows",
    "slice_key",
]

Tally = Mapping[str, Any]
"""Counted outcomes. rate: n, k true; median: n, histogram {"<number>": count}; mean: n, total."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at an iteration.

    `alpha` is the iteration's, `rows` what it has measured, `cap` the most rows EXTEND may give it.
    `passed` holds the keys of rules that passed at an earlier look of the same iteration: they stay
    passed. With `census` every row there is was measured, and values decide themselves. `planned` is
    how many rows the iteration was to begin with: before that (a smoke) only a FAIL ends it.
    """

    alpha: float
    rows: int
    cap: int
    census: bool = False
    passed: frozenset[str] = field(default_factory=frozenset)
    planned: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """A rule's measurement: k of n rows, the value in its own unit, failures among the n."""

    k: float
    n: int
    value: float | None
    failures: float


def assess_gate(gate: Gate, tallies: Mapping[str, Tally], look: Look) -> tuple[GateCheck, ...]:
    """Assess every rule, hard ones first, then their slices; `tallies` by `Rule.key` or `slice_key`.

    An absent one counts no rows.
    """
    checks = tuple(assess(rule, tallies.get(rule.key, {}), look) for rule in gate.rules)
    sliced = (assess_slices(gate, rule, tallies, look) for rule in gate.hard if gate.slices)
    return checks + tuple(check for group in sliced for check in group)


def slice_key(rule: str, column: str, value: object) -> str:
    """The name of a rule's measurement over the rows that have one value in a column."""
    return f"{rule}[{column}={value}]"


def assess_slices(
    gate: Gate, rule: Rule, tallies: Mapping[str, Tally], look: Look
) -> tuple[GateCheck, ...]:
    """A rule within every slice that has rows; verdicts keep the look's error over all of them.

    A slice passes or fails where its p-value, 1 over its e-value, is at most alpha after Holm's
    adjustment for the number of slices (Holm 1979); bounds and outlook are Bonferroni's.
    """
    starts = tuple(f"{rule.key}[{column}=" for column in gate.slices)
    found = {key: tally for key, tally in tallies.items() if key.startswith(starts)}
    if not found or rule.failure_limit is None:
        return ()
    each = replace(look, alpha=look.alpha / len(found))
    checks = [
        replace(assess(rule, tally, each), metric=key, hard=gate.hard_slices)
        for key, tally in sorted(found.items())
    ]
    if look.census:
        return tuple(checks)
    passes = stats.holm([1.0 / max(check.e_pass or 0.0, 1.0) for check in checks])
    fails = stats.holm([1.0 / max(check.e_fail or 0.0, 1.0) for check in checks])
    return tuple(
        _settle_slice(check, p <= look.alpha or check.metric in look.passed, f <= look.alpha)
        for check, p, f in zip(checks, passes, fails, strict=True)
    )


def _settle_slice(check: GateCheck, passes: bool, fails: bool) -> GateCheck:
    if passes:
        return replace(check, verdict=Verdict.PASS, rows_needed=None, rows_likely=None, chance=None)
    return replace(check, verdict=Verdict.FAIL) if fails else check


def assess(rule: Rule, tally: Tally, look: Look) -> GateCheck:
    """What a tally proves about a rule at this look."""
    count = count_rows(rule, tally)
    check = GateCheck(
        rule.key,
        rule.op,
        rule.threshold,
        count.k,
        count.n,
        count.value,
        None,
        None,
        Verdict.INCONCLUSIVE,
        alpha=look.alpha,
        hard=rule.hard,
        population=rule.population,
        aggregate=rule.aggregate,
    )
    if rule.aggregate == "mean" or rule.op == "equals" or look.census:
        basis = "census" if look.census else "count" if rule.aggregate == "rate" else "value"
        return _decide_on_value(rule, replace(check, certified=False, basis=basis, alpha=None))
    return _decide_on_evidence(rule, check, count, look)


def _decide_on_value(rule: Rule, check: GateCheck) -> GateCheck:
    if check.value is None:
        return check
    holds = {
        "below": check.value < rule.threshold,
        "at_least": check.value >= rule.threshold,
        "equals": check.value == rule.threshold,
    }[rule.op]
    rate = check.aggregate == "rate"
    return replace(
        check,
        verdict=Verdict.PASS if holds else Verdict.FAIL,
        lower=check.value if rate and check.basis == "census" else None,
        upper=check.value if rate and check.basis == "census" else None,
    )


def _decide_on_evidence(rule: Rule, check: GateCheck, count: Count, look: Look) -> GateCheck:
    limit = rule.failure_limit
    assert limit is not None
    e_pass = stats.e_below(count.failures, count.n, limit)
    e_fail = stats.e_above(count.failures, count.n, limit)
    lower, upper = stats.bounds(count.failures, count.n, look.alpha)
    if rule.counts_good:
        lower, upper = 1 - upper, 1 - lower
    verdict = Verdict.INCONCLUSIVE
    enough = -math.log(look.alpha)
    against = float(stats.log_e_below(count.failures, count.n, limit))
    if against >= enough or rule.key in look.passed:
        verdict = Verdict.PASS
    elif float(stats.log_e_above(count.failures, count.n, limit)) >= enough:
        verdict = Verdict.FAIL
    check = replace(check, verdict=verdict, e_pass=e_pass, e_fail=e_fail, lower=lower, upper=upper)
    return _look_ahead(check, count, limit, look) if verdict is Verdict.INCONCLUSIVE else check


def _look_ahead(check: GateCheck, count: Count, limit: float, look: Look) -> GateCheck:
    """Adds what further rows could do, given that some rows lie outside the population."""
    share = 1.0 if count.n == look.rows else (count.n + 0.5) / (look.rows + 1)
    room = max(look.cap - look.rows, 0)
    cap, failures = count.n + int(room * share), int(count.failures)
    if cap == count.n:  # nothing to predict, and over a million rows that would take seconds
        return replace(check, chance=0.0)
    needed = stats.rows_to_pass(limit, look.alpha, failures) - count.n
    chance, likely = stats.predict_pass(failures, count.n, limit, look.alpha, cap)
    return replace(
        check,
        rows_needed=_rows(needed, share) if needed <= cap - count.n else None,
        rows_likely=None if likely is None else min(_rows(likely, share), room),
        chance=chance,
    )


def _rows(outcomes: int, share: float) -> int:
    return -int(-outcomes // share)


def count_rows(rule: Rule, tally: Tally) -> Count:
    n = int(tally.get("n", 0))
    if rule.aggregate == "mean":
        value = tally["total"] / n if n else None
        return Count(tally.get("total", 0.0), n, value, 0)
    if rule.aggregate == "median":
        histogram = {float(key): int(count) for key, count in tally.get("histogram", {}).items()}
        good = sum(c for x, c in histogram.items() if _is_good(rule, x))
        return Count(good, n, _median(histogram), n - good)
    k = int(tally.get("k", 0))
    return Count(k, n, k / n if n else None, n - k if rule.counts_good else k)


def _is_good(rule: Rule, value: float) -> bool:
    if rule.op == "equals":
        return value == rule.threshold
    return value < rule.threshold if rule.op == "below" else value >= rule.threshold


def _median(histogram: Mapping[float, int]) -> float | None:
    """The median of counted values; the mean of the two middle ones where their number is even."""
    n, seen = sum(histogram.values()), 0
    middle: list[float] = []
    for value in sorted(histogram):
        seen += histogram[value]
        if not middle and seen >= (n + 1) // 2:
            middle.append(value)
        if seen >= n // 2 + 1:
            return (middle[0] + value) / 2
    return None
