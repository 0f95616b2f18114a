"""Gates: what a gate file says, what a measurement proves, what follows from it. Pure."""

from __future__ import annotations

from nexa_core.gates.assessment import Look, assess, assess_gate, slice_key
from nexa_core.gates.dataset import MEASURES, bind_measures
from nexa_core.gates.decision import (
    Conclusion,
    Ruling,
    conclude,
    decide,
    is_veto,
    refuse_changes,
    settle,
)
from nexa_core.gates.drift import assess_drift, drift_alpha, rule_on_drift
from nexa_core.gates.paired import GAIN, assess_pairs, describe_plan, evaluation_gate
from nexa_core.gates.planning import Assumption, RulePlan, never_passes, plan, rows_auto
from nexa_core.gates.reading import gate_from, read_gate
from nexa_core.gates.rules import Gate, ReviewerUse, Rule, bind_gate
from nexa_core.gates.wording import describe

__all__ = [
    "GAIN",
    "MEASURES",
    "Assumption",
    "Conclusion",
    "Gate",
    "Look",
    "ReviewerUse",
    "Rule",
    "RulePlan",
    "Ruling",
    "assess",
    "assess_drift",
    "assess_gate",
    "assess_pairs",
    "bind_gate",
    "bind_measures",
    "conclude",
    "decide",
    "describe",
    "describe_plan",
    "drift_alpha",
    "evaluation_gate",
    "gate_from",
    "is_veto",
    "never_passes",
    "plan",
    "read_gate",
    "refuse_changes",
    "rows_auto",
    "rule_on_drift",
    "settle",
    "slice_key",
]
