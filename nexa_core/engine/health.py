"""The health of a training: its log, a row a step, as a census under the gate `training_health`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from nexa_core.engine.tallies import tally
from nexa_core.gates import Look, assess_gate, bind_gate, gate_from
from nexa_core.plugins import Plugins
from nexa_core.records import GateCheck, Verdict

__all__ = ["GATE", "assess_training", "describe_illness"]

GATE = "training_health"
LOG = "metrics.jsonl"
_ROWS_ONLY = "failed_rate"
"""Every gate has this rule, and steps of a training do not fail one by one."""


def assess_training(plugins: Plugins, folder: Path) -> tuple[GateCheck, ...]:
    """What the gate says about the training in a folder; nothing where it left no log.

    Steps depend on each other, so they are a census and decide by what was observed.
    """
    table = _read_log(folder / LOG)
    if table is None:
        return ()
    gate = bind_gate(
        gate_from(GATE, lambda name, place: plugins.file("gate", name, place)),
        {spec.name: spec for spec in plugins.metrics.specs()},
    )
    tallies: dict[str, dict[str, Any]] = {}
    for rule in (rule for rule in gate.rules if rule.metric != _ROWS_ONLY):
        spec = plugins.metrics.get(rule.metric, rule.place)
        metric = plugins.build(spec, dict(rule.options), {}, rule.place)
        tallies[rule.key] = tally(metric.outcomes(table), spec.aggregate)
    rows = table.num_rows
    checks = assess_gate(gate, tallies, Look(gate.alpha(1), rows, rows, census=True))
    return tuple(check for check in checks if check.metric != _ROWS_ONLY)


def describe_illness(checks: tuple[GateCheck, ...]) -> str | None:
    """One sentence on the hard rules that do not hold, None where all do."""
    failed = [c for c in checks if c.hard and c.verdict is Verdict.FAIL]
    if not failed:
        return None
    told = ", ".join(f"{check.metric} {check.k:g} of {check.n} steps" for check in failed)
    return (
        f"The training is not healthy: {told}. See the loss in the report before using the adapter."
    )


def _read_log(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    losses = [line.get("loss") for line in lines if "loss" in line]
    return pa.table({"loss": pa.array(losses, pa.float64())}) if losses else None
