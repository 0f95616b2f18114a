"""Whether one arm of an evaluation beats another, by the test that was fixed before it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa_core import stats
from nexa_core.gates.rules import Gate, Rule
from nexa_core.records import GateCheck, Verdict

__all__ = ["GAIN", "assess_pairs", "describe_plan", "evaluation_gate"]

GAIN = "accuracy_gain"
"""The accuracy of the second arm minus that of the first."""


def evaluation_gate(alpha: float, effect: float, required: bool) -> Gate:
    """The gate of an evaluation: a gain of at least `effect`, certain at level alpha, two-sided."""
    rule = Rule(GAIN, "at_least", effect, aggregate="difference", hard=required)
    kept = {"hard": (rule,)} if required else {"hard": (), "soft": (rule,)}
    return Gate("evaluation", confidence=1.0 - alpha, **kept)


def assess_pairs(
    gate: Gate, tallies: Mapping[str, Mapping[str, Any]], terms: Mapping[str, Any]
) -> tuple[GateCheck, ...]:
    """PASS where the second arm is better by the registered test, else FAIL.

    `tallies[GAIN]` holds a (both right), b (first only), c (second only), d (neither), and, for
    `terms["test"] == "sign_flip"`, the items won minus lost of every cluster. Better means: p < alpha,
    c > b, and a gain of at least the registered effect. Bounds are Newcombe's at the gate's
    confidence.
    """
    (rule,), found = gate.rules, tallies[GAIN]
    alpha = float(terms["alpha"])
    pairs = stats.compare_pairs(found["a"], found["b"], found["c"], found["d"], 1.0 - alpha)
    p = pairs.p_midp
    if terms["test"] == "sign_flip":
        p = stats.sign_flip([[each] for each in found["clusters"]])
    better = p < alpha and pairs.c > pairs.b and pairs.delta >= rule.threshold
    return (
        GateCheck(
            GAIN,
            rule.op,
            rule.threshold,
            pairs.c,
            pairs.b + pairs.c,
            pairs.delta,
            pairs.delta_low,
            pairs.delta_high,
            Verdict.PASS if better else Verdict.FAIL,
            alpha=alpha,
            hard=rule.hard,
            population=f"{pairs.n:,} items; the {pairs.b + pairs.c:,} on which the arms differ",
            aggregate="difference",
            basis="paired",
        ),
    )


def describe_plan(terms: Mapping[str, Any]) -> str:
    """What was fixed before an evaluation, in a sentence."""
    pair = terms["compared"]
    if pair is None:
        return f"{terms['n']:,} items ({terms['items']}), and no two arms to compare."
    test = "sign flips of clusters" if terms["test"] == "sign_flip" else "McNemar's mid-p"
    needs = f" by at least {100 * terms['effect']:.3g} points" if terms["effect"] else ""
    decides = "the run fails otherwise" if terms["required"] else "reported, decides nothing"
    after = " Amends a plan whose result may have been seen." if "amends" in terms else ""
    return (
        f"Registered before an arm was asked: {pair[1]} beats {pair[0]}{needs} on {terms['n']:,} items "
        f"({terms['items']}), {test}, two-sided, at {terms['alpha']:g}; {decides}.{after}"
    )
