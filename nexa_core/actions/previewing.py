"""What a pipeline would do: checked against everything installed, and tried on a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.batch import Batch
from nexa_core.engine.binding import bind
from nexa_core.engine.budget import make_budget
from nexa_core.engine.calls import Calls
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.loop import run_async
from nexa_core.engine.plan import Plan
from nexa_core.engine.preflight import check_plan
from nexa_core.engine.shard import ShardOrder, finish_table, run_steps
from nexa_core.engine.sources import HeldRows, SourceRow, invent_rows, read_rows
from nexa_core.gates import Rule, RulePlan, rows_auto
from nexa_core.gates import plan as plan_gate
from nexa_core.phrases import show_rule
from nexa_core.pipeline import Pipeline, load_pipeline
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.protocols import Source
from nexa_core.workspace import Workspace


def validate(
    file: str | Path,
    sets: Sequence[str] = (),
    *,
    workspace: Workspace,
    workspace_plugins: bool = True,
) -> dict[str, Any]:
    """Check a pipeline as a run would before its first call; what its pilot will take.

    Raises:
        UsageError: Something is wrong, with file and line.
    """
    workspace.load_environment()
    pipeline = load_pipeline(workspace.find_pipeline(str(file)), sets)
    plan, _ = bind(pipeline, workspace, load_plugins(workspace, workspace_plugins))
    warnings = check_plan(plan, workspace.artifacts_path)
    return {
        "pipeline": pipeline.name,
        "hash": pipeline.hash,
        "steps": [step.id for step in pipeline.steps],
        "columns": list(plan.source_columns),
        "warnings": warnings,
        "pilot": _pilot_plan(plan),
    }


def _pilot_plan(plan: Plan) -> dict[str, Any] | None:
    gate, pilot = plan.gate, plan.pipeline.pilot
    if gate is None:
        return None
    alpha = gate.alpha(pilot.max_iterations)
    return {
        "gate": gate.name,
        "confidence": gate.confidence,
        "alpha": alpha,
        "rows_first": rows_auto(gate, alpha) if pilot.rows == "auto" else pilot.rows,
        "rows_most": gate.max_rows,
        "smoke": pilot.smoke,
        "max_iterations": pilot.max_iterations,
        "reviewers": [use.name for use in gate.reviewers],
        "observed": [_name(rule) for rule in gate.hard if rule.failure_limit is None],
        "soft": [_name(rule) for rule in gate.soft],
        "slices": list(gate.slices),
        "hard_slices": gate.hard_slices,
        "rules": [
            {
                "metric": rule.metric,
                "rule": f"{rule.op} {rule.threshold:g}",
                "wants": _want(rule),
                "rows_least": rule.rows_least,
                "chances": [
                    {
                        "failure_rate": each.failure_rate,
                        "chance": round(each.chance, 4),
                        "rows_median": each.rows_median,
                    }
                    for each in rule.assumptions
                ],
            }
            for rule in plan_gate(gate, alpha)
        ],
    }


def _name(rule: Rule) -> dict[str, str]:
    return {"metric": rule.key, "wants": _want(rule)}


def _want(rule: Rule | RulePlan) -> str:
    """What a rule wants, as every screen says it: `below 5 %`."""
    aggregate = rule.aggregate
    return show_rule({"rule": rule.op, "threshold": rule.threshold, "aggregate": aggregate})


def preview(
    file: str | Path,
    rows: int = 3,
    sets: Sequence[str] = (),
    *,
    workspace: Workspace,
    workspace_plugins: bool = True,
) -> list[dict[str, Any]]:
    """The first rows taken through every step, with what was asked, answered, scored and decided."""
    workspace.load_environment()
    pipeline = load_pipeline(workspace.find_pipeline(str(file)), sets)
    return preview_pipeline(pipeline, workspace, load_plugins(workspace, workspace_plugins), rows)


def preview_pipeline(
    pipeline: Pipeline, workspace: Workspace, plugins: Plugins, rows: int = 3, data: Any = None
) -> list[dict[str, Any]]:
    """`preview` of a pipeline that is read already; `data` stands in for its source."""
    held = HeldRows(data) if data is not None else None
    plan, source = bind(pipeline, workspace, plugins, held)
    check_plan(plan, workspace.artifacts_path, rows_only=True)
    order = ShardOrder("preview", "preview", 0, _first_rows(plan, source, rows))
    calls = Calls(Dispatch(make_budget(plan.pipeline.budget)))

    async def work() -> Batch:
        try:
            async with calls.dispatch:
                return await run_steps(plan, order, calls)
        finally:
            await calls.drain()
            await plan.models.aclose()

    batch = run_async(work())
    table = finish_table(plan, order, batch)
    asked: dict[str, list[dict[str, Any]]] = {}
    for call in calls.table().to_pylist():
        shown = ("step", "request", "reply", "error", "finish_reason", "cost_nano")
        asked.setdefault(call["row_id"], []).append({key: call[key] for key in shown})
    return [{"row": row, "calls": asked.get(row["id"], [])} for row in table.to_pylist()]


def _first_rows(plan: Plan, source: Source | None, count: int) -> list[SourceRow]:
    if source is None:
        return invent_rows(plan.pipeline.seed, "preview", 0, count)
    rows = read_rows(source, plan.pipeline)
    return [row for _, row in zip(range(count), rows, strict=False)]
