"""The health of a training: its log, a row a step, as a census under the gate `training_health`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nexa_core.engine.tallies import tally
from nexa_core.gates import Gate, Look, assess_gate, bind_gate, gate_from
from nexa_core.plugins import Plugins
from nexa_core.records import GateCheck, Verdict

__all__ = ["GATE", "Health", "assess_training", "describe_illness", "measure_training"]

GATE = "training_health"
LOG = "metrics.jsonl"
_ROWS_ONLY = "failed_rate"
"""Every gate has this rule, and steps of a training do not fail one by one."""


@dataclass(frozen=True)
class Health:
    """The steps of a training as a gate reads them: a census, as steps depend on each other."""

    gate: Gate
    tallies: Mapping[str, Mapping[str, Any]]
    look: Look

    @property
    def checks(self) -> tuple[GateCheck, ...]:
        """What the gate says about them."""
        return assess_gate(self.gate, self.tallies, self.look)


def measure_training(plugins: Plugins, folder: Path) -> Health | None:
    """The training in a folder under the gate `training_health`; None where it left no log."""
    table = _read_log(folder / LOG)
    if table is None:
        return None
    named = gate_from(GATE, lambda name, place: plugins.file("gate", name, place))
    bound = bind_gate(named, {spec.name: spec for spec in plugins.metrics.specs()})
    gate = replace(bound, hard=tuple(rule for rule in bound.hard if rule.metric != _ROWS_ONLY))
    tallies: dict[str, dict[str, Any]] = {}
    for rule in gate.rules:
        spec = plugins.metrics.get(rule.metric, rule.place)
        metric = plugins.build(spec, dict(rule.options), {}, rule.place)
        tallies[rule.key] = tally(metric.outcomes(table), spec.aggregate)
    rows = table.num_rows
    return Health(gate, tallies, Look(gate.alpha(1), rows, rows, census=True))


def assess_training(plugins: Plugins, folder: Path) -> tuple[GateCheck, ...]:
    """What the gate says about the training in a folder; nothing where it left no log."""
    health = measure_training(plugins, folder)
    return health.checks if health else ()


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
