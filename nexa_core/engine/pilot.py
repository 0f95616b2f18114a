"""The pilot: iterations of fresh rows, measured, decided by the gate, with other parameters each time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexa_core.engine.context import Context
from nexa_core.engine.gating import Judged, is_reviewed, judge
from nexa_core.engine.plan import Plan
from nexa_core.engine.unit import Unit
from nexa_core.errors import PreflightError
from nexa_core.events import GateDecided, IterationStarted, ParametersChanged
from nexa_core.gates import rows_auto
from nexa_core.records import Decision, State
from nexa_core.store.files import replace_file


@dataclass(frozen=True)
class Iteration:
    """One finished iteration: its parameters, shards and the gate's last word on it."""

    number: int
    plan: Plan
    unit: Unit
    parameters: Mapping[str, Any]
    judged: Judged

    def as_json(self) -> dict[str, Any]:
        """The iteration as `nexa run --json` prints it."""
        return {
            "n": self.number,
            "decision": str(self.judged.decision),
            "reason": self.judged.reason,
            "parameters": dict(self.parameters),
            "checks": [check.as_json() for check in self.judged.checks],
            "changes": dict(self.judged.changes),
            "waiting": self.judged.waiting,
            "rows": {str(state): self.unit.count(state) for state in State},
        }

    def as_history(self) -> dict[str, Any]:
        """The iteration as later reviewers are shown it."""
        told = self.as_json()
        return {
            "iteration": self.number,
            **{key: told[key] for key in ("decision", "parameters", "checks", "changes")},
        }


def start_values(plan: Plan) -> dict[str, Any]:
    """The parameters a reviewer may change, at their values in the pipeline."""
    return {path: plan.pipeline.value_at(path) for path in plan.pipeline.search_space}


async def run_pilot(context: Context) -> list[Iteration]:
    """Iterate until the gate proceeds, stops or a person is needed; earlier decisions are kept."""
    iterations: list[Iteration] = []
    values = start_values(context.plan)
    used = 0
    for number in range(1, context.plan.pipeline.pilot.max_iterations + 1):
        iteration = await _run_iteration(context, number, values, used, iterations)
        iterations.append(iteration)
        if iteration.judged.decision is not Decision.ITERATE or iteration.judged.waiting:
            break
        used += iteration.unit.source_rows
        values = {**values, **{path: new for path, (_, new) in iteration.judged.changes.items()}}
    return iterations


async def _run_iteration(
    context: Context,
    number: int,
    values: Mapping[str, Any],
    used: int,
    earlier: list[Iteration],
) -> Iteration:
    plan = context.plan.with_values(values)
    decided = is_reviewed(context, number)
    unit = Unit(context, plan, context.run.iteration(number), is_decided=decided)
    planned = rows_planned(context)
    _write_parameters(unit, number, values, planned)
    context.announcer.announce(IterationStarted(number, dict(values), planned))
    judged: Judged | None = None
    while True:
        before = unit.source_rows
        await _fill(context, unit, planned, used)
        if not unit.entries:
            reason = "The source has no fresh rows left for another iteration."
            return Iteration(number, plan, unit, values, Judged(Decision.STOP, reason))
        if judged is not None and unit.source_rows == before:
            reason = "The gate asks for more rows, and the source has none left."
            return Iteration(number, plan, unit, values, Judged(Decision.STOP, reason))
        whole = 0 if unit.exhausted else max(rows_whole(context), 0)
        judged, is_new = await judge(context, plan, unit, number, values, earlier, judged, whole)
        if is_new or not context.has_told(judged.review):
            _announce(context, number, judged)
        if judged.decision is not Decision.EXTEND:
            return Iteration(number, plan, unit, values, judged)
        planned = unit.source_rows + judged.extend_rows


def rows_planned(context: Context) -> int:
    """How many source rows an iteration begins with; -1 for all of them.

    With `smoke` it begins with those few, and the gate decides whether more are worth it.
    """
    planned, smoke = rows_whole(context), context.plan.pipeline.pilot.smoke
    return min(smoke, planned) if smoke is not None and planned > 0 else planned


def rows_whole(context: Context) -> int:
    """How many source rows an iteration is to have before it may proceed; -1 for all of them."""
    pilot, gate = context.plan.pipeline.pilot, context.plan.gate
    if isinstance(pilot.rows, int):
        return pilot.rows
    if pilot.rows == "all":
        return -1
    if gate is None:
        raise PreflightError(
            "`pilot.rows: auto` needs a gate to say how many rows it takes.",
            "Name a gate, or give pilot.rows a number.",
            context.plan.pipeline.place("pilot.rows"),
        )
    return rows_auto(gate, gate.alpha(pilot.max_iterations))


async def _fill(context: Context, unit: Unit, planned: int, used: int) -> None:
    """Commit shards until the unit holds the planned rows, or the source has no more."""
    size = context.plan.pipeline.pilot.shard_rows
    if planned < 0:
        await _take_all(context, unit, size)
        return
    while unit.source_rows < planned:
        count = min(size, planned - unit.source_rows)
        rows = context.pilot_rows(unit.name, used, unit.source_rows, count)
        if not rows:
            break
        await unit.commit(await unit.compute(len(unit.entries), rows))
    unit.exhausted = not context.pilot_rows(unit.name, used, unit.source_rows, 1)
    unit.is_whole = context.holds_every_row(used, unit.source_rows)


async def _take_all(context: Context, unit: Unit, size: int) -> None:
    """Every row of the source, in its order; shards that are committed are passed over."""
    committed, rows = unit.source_rows, []
    for position, row in enumerate(context.read_rows()):
        if position < committed:
            continue
        rows.append(row)
        if len(rows) == size:
            await unit.commit(await unit.compute(len(unit.entries), rows))
            rows = []
    if rows:
        await unit.commit(await unit.compute(len(unit.entries), rows))
    unit.exhausted = unit.is_whole = True


def _write_parameters(unit: Unit, number: int, values: Mapping[str, Any], planned: int) -> None:
    path = unit.folder.parameters_path
    if not path.exists():
        content = {"iteration": number, "parameters": dict(values), "rows_planned": planned}
        replace_file(path, json.dumps(content, indent=1).encode())


def _announce(context: Context, number: int, judged: Judged) -> None:
    context.announcer.announce(
        GateDecided(
            number,
            str(judged.decision),
            [check.as_json() for check in judged.checks],
            judged.review,
            judged.reason,
            waiting=judged.waiting,
            signer=judged.signer,
        )
    )
    if judged.changes and not judged.waiting:
        told = ParametersChanged(number, dict(judged.changes), judged.patch_reason)
        context.announcer.announce(told)
