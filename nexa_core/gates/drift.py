"""Whether rows of a scale run still are what the pilot that passed showed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from nexa_core import stats
from nexa_core.gates.assessment import Count, Tally, count_rows
from nexa_core.gates.decision import Ruling
from nexa_core.gates.rules import Gate, Rule
from nexa_core.gates.wording import describe_rule, join, show_percent
from nexa_core.records import Decision, GateCheck, Verdict

__all__ = ["DRIFT_MARGIN", "assess_drift", "drift_alpha", "rule_on_drift"]

DRIFT_MARGIN = 0.2
"""A rate may rise by this part of its limit before it counts as drift: less changes no decision."""


def drift_alpha(gate: Gate, accepted: int = 0) -> float:
    """The chance of a false alarm of each rule in a run whose rows are what its pilot's were.

    1 − confidence, shared among the rules that can drift; a person who has accepted a drift starts
    the test anew with half of what the one before had, so that the sum stays bounded.
    """
    tested = sum(_drifts(rule) for rule in gate.hard)
    return (1.0 - gate.confidence) / max(tested, 1) / 2 ** (accepted + 1)


def assess_drift(
    gate: Gate, pilot: Mapping[str, Tally], scale: Mapping[str, Tally], alpha: float
) -> tuple[GateCheck, ...]:
    """For each hard rule with a limit: FAIL where its rate has risen for certain and by more than
    a fifth of the limit (`stats.e_drift`, valid at every look), PASS where it has not."""
    return tuple(
        _assess(
            rule,
            count_rows(rule, pilot.get(rule.key, {})),
            count_rows(rule, scale.get(rule.key, {})),
            alpha,
        )
        for rule in gate.hard
        if _drifts(rule)
    )


def rule_on_drift(gate: Gate, checks: tuple[GateCheck, ...], pilot: Mapping[str, Tally]) -> Ruling:
    """STOP, with what has drifted and from where, or PROCEED."""
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    if not failed:
        return Ruling(Decision.PROCEED, "No rate has drifted from the pilot that passed.")
    rules = {rule.key: rule for rule in gate.hard}
    told = (_tell(check, count_rows(rules[check.metric], pilot[check.metric])) for check in failed)
    return Ruling(Decision.STOP, join(told))


def _drifts(rule: Rule) -> bool:
    return rule.failure_limit is not None and rule.aggregate in ("rate", "median")


def _assess(rule: Rule, before: Count, now: Count, alpha: float) -> GateCheck:
    limit = rule.failure_limit
    assert limit is not None
    margin = DRIFT_MARGIN * limit
    seen = int(before.failures), before.n, int(now.failures), now.n
    drifted = stats.log_e_drift(*seen, margin) >= -math.log(alpha)
    check = GateCheck(
        rule.key,
        rule.op,
        rule.threshold,
        now.k,
        now.n,
        now.value,
        None,
        None,
        Verdict.FAIL if drifted else Verdict.PASS,
        alpha=alpha,
        population=rule.population,
        aggregate=rule.aggregate,
    )
    return replace(check, e_fail=stats.e_drift(*seen, margin), basis="drift")


def _tell(check: GateCheck, before: Count) -> str:
    what = "the share it is tested by is" if check.aggregate == "median" else "is"
    return (
        f"{check.metric} has drifted: {what} {show_percent(check.k / check.n)} of {check.n:,} rows, "
        f"and was {show_percent(before.k / before.n)} of {before.n:,} rows in the pilot that passed "
        f"({describe_rule(check)})."
    )
