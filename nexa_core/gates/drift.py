"""Whether rows of a scale run still are what the pilot that passed showed."""

from __future__ import annotations

from collections.abc import Mapping

from nexa_core import stats
from nexa_core.figures import show_percent
from nexa_core.gates.assessment import Count, Tally, count_rows
from nexa_core.gates.decision import Ruling
from nexa_core.gates.rules import Gate, Rule
from nexa_core.gates.wording import describe_rule, join
from nexa_core.records import Decision, GateCheck, Verdict

__all__ = ["DRIFT_MARGIN", "assess_drift", "drift_alpha", "rule_on_drift"]

DRIFT_MARGIN = 0.2
"""A rate may rise by this part of its limit before it counts as drift: less changes no decision."""


def drift_alpha(gate: Gate, accepted: int = 0) -> float:
    """The chance of a false alarm of each rule in a run whose rows are what its pilot's were.

    1 − confidence, shared among the rules that can drift. Nine tenths of it are for the first test;
    who accepts a drift starts another with nine tenths of what is left, so that all stay within it.
    """
    tested = sum(_drifts(rule) for rule in gate.hard)
    return (1.0 - gate.confidence) / max(tested, 1) * 0.9 * 0.1**accepted


def assess_drift(
    gate: Gate, pilot: Mapping[str, Tally], scale: Mapping[str, Tally], alpha: float
) -> tuple[GateCheck, ...]:
    """For each hard rule with a limit: FAIL where its rate of failures has risen for certain by more
    than a fifth of the limit (`stats.compare_rates`, valid at every look), PASS where it has not.

    A check's one bound is how good the rate can be since.
    """
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
    rise = stats.compare_rates(
        int(before.failures),
        before.n,
        int(now.failures),
        now.n,
        alpha,
        DRIFT_MARGIN * limit,
    )
    return GateCheck(
        rule.key,
        rule.op,
        rule.threshold,
        now.k,
        now.n,
        now.value,
        None if rule.counts_good else rise.after,
        1 - rise.after if rule.counts_good else None,
        Verdict.FAIL if rise.risen else Verdict.PASS,
        alpha=alpha,
        population=rule.population,
        aggregate=rule.aggregate,
        basis="drift",
    )


def _tell(check: GateCheck, before: Count) -> str:
    what = "the share it is tested by is" if check.aggregate == "median" else "is"
    return (
        f"{check.metric} has drifted: {what} {show_percent(check.k / check.n)} of {check.n:,} rows, "
        f"and was {show_percent(before.k / before.n)} of {before.n:,} rows in the pilot that passed "
        f"({describe_rule(check)})."
    )
