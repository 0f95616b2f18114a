"""Scale runs after a pilot that passed: how often a stable one alarms, how soon a changed one does."""

from __future__ import annotations

from typing import Any

import numpy as np

from gating.nulls import ITERATIONS, Decider, pilot_gate, tally
from nexa_core.gates import Gate, Rule, assess_drift, drift_alpha, rows_auto
from nexa_core.records import Decision, Verdict

SHARDS, SHARD_ROWS = 20, 500
STABLE = ((0.005, 0.005), (0.01, 0.01), (0.02, 0.02), (0.03, 0.03))
CHANGED = ((0.01, 0.03), (0.01, 0.05), (0.01, 0.1), (0.01, 0.2))


def measure_drift(campaigns: int, seed: int) -> dict[str, dict[str, float]]:
    """By the runaway rate of pilot and scale: the share of runs that alarm, and the rows it takes."""
    gate, found = pilot_gate(), {}
    rule = gate.hard[0]
    decider = Decider(gate, rule)
    for i, (before, after) in enumerate((*STABLE, *CHANGED)):
        rng = np.random.default_rng([seed, 13, i])
        alarms = [_play(decider, before, after, rng) for _ in range(campaigns)]
        rows = [at for at in alarms if at]
        found[f"{before:.1%} → {after:.1%}"] = {
            "stable": float(before == after),
            "alarm_rate": len(rows) / campaigns,
            "rows_median": float(np.median(rows)) if rows else float("inf"),
        }
    return found


def _play(decider: Decider, before: float, after: float, rng: np.random.Generator) -> int:
    """After how many rows of scale drift is found, 0 for never; its pilot is one that passed."""
    gate, rule = decider.gate, decider.null
    rows, k = _pass_pilot(decider, before, rng)
    alpha = drift_alpha(gate)
    only = Gate("one", (rule,), confidence=gate.confidence)
    pilot, scaled = {rule.key: tally(rule, rows, k)}, 0
    for shard in range(1, SHARDS + 1):
        scaled += int(rng.binomial(SHARD_ROWS, after))
        if _drifted(only, rule, pilot, scaled, shard * SHARD_ROWS, alpha):
            return shard * SHARD_ROWS
    return 0


def _drifted(gate: Gate, rule: Rule, pilot: dict[str, Any], k: int, n: int, alpha: float) -> bool:
    (check,) = assess_drift(gate, pilot, {rule.key: tally(rule, n, k)}, alpha)
    return check.verdict is Verdict.FAIL


def _pass_pilot(decider: Decider, rate: float, rng: np.random.Generator) -> tuple[int, int]:
    """Rows and failures of a pilot that the gate let pass; pilots are drawn until one does."""
    while True:
        rows, k, passed = rows_auto(decider.gate, decider.gate.alpha(ITERATIONS)), 0, frozenset()
        k = int(rng.binomial(rows, rate))
        while True:
            ruling, passed = decider(rows, k, passed)
            if ruling.decision is Decision.PROCEED:
                return rows, k
            if ruling.decision is not Decision.EXTEND:
                break
            k += int(rng.binomial(ruling.extend_rows, rate))
            rows += ruling.extend_rows
