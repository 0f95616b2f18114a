"""What could make a run fail or be in vain, found before anything is paid for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.budget import NANO, in_dollars
from nexa_core.engine.column_checks import check_columns
from nexa_core.engine.evaluation import check_evaluation
from nexa_core.engine.items import bind_items
from nexa_core.engine.package_settings import check_packaging
from nexa_core.engine.plan import Plan
from nexa_core.engine.role_checks import check_roles
from nexa_core.engine.seating import JUDGE_TOKENS, build_reviewer, judged_columns, reviewer_roles
from nexa_core.engine.training import check_training
from nexa_core.engine.tries import Line
from nexa_core.errors import PreflightError, UnknownNameError
from nexa_core.gates import never_passes
from nexa_core.pipeline import GenerateStep, JudgeStep, Role, Step, roles_of
from nexa_core.prices import is_local, warn_of_age
from nexa_core.records import canonical_json
from nexa_core.secrets import find_keys

LEAST_FREE_BYTES = 200_000_000
SHORTEST_KEY = 16
"""Shorter values of variables are words as well."""


def check_plan(plan: Plan, artifacts: Path, rows_only: bool = False) -> list[str]:
    """Raise PreflightError for what cannot work; return what is odd but no error.

    Models are built, and asked whether they take the sampling keys; nothing is asked of them. With
    `rows_only` the plan will neither train nor evaluate, and what only that needs is left alone.
    """
    _refuse_keys(plan)
    _check_packaging(plan)
    if not rows_only:
        _check_later_phases(plan)
    check_prompts(plan)
    _check_pilot(plan)
    steps = plan.pipeline.steps if rows_only else plan.pipeline.asking_steps
    warnings = [*check_roles(plan, steps), *_check_money(plan, steps)]
    _check_disk(artifacts)
    # Built here so that a wrong option or a missing column is found before the first call.
    _ = plan.metrics
    plan.build_checks()
    check_columns(plan)
    for use in plan.gate.reviewers if plan.gate else ():
        build_reviewer(plan, use)
    return [*_warn_of_unused(plan), *warnings]


def _warn_of_unused(plan: Plan) -> list[str]:
    """The pipeline's warnings, but of roles that a reviewer of the gate's file asks."""
    asked = {f"'{role}'" for role in reviewer_roles(plan)}
    return [told for told in plan.pipeline.warnings if not any(role in told for role in asked)]


def _refuse_keys(plan: Plan) -> None:
    """A key that stands in the pipeline would be written into the run and its report."""
    named = [role.api_key_env for role in plan.pipeline.models.values() if role.api_key_env]
    sections = plan.pipeline.resolved()
    parts = {f"models.{name}": role for name, role in sections["models"].items()}
    parts |= {name: value for name, value in sections.items() if name != "models"}
    for variable, key in find_keys(named).items():
        for path, part in parts.items():
            if len(key) >= SHORTEST_KEY and canonical_json(key)[1:-1] in canonical_json(part):
                raise PreflightError(
                    f"`{path}` holds the key in ${variable}, and would write it into every run.",
                    f"Take it out and write `api_key_env: {variable}`.",
                    plan.pipeline.place(path),
                )


def _check_packaging(plan: Plan) -> None:
    """What packaging names is there, and a trainer can read it."""
    packaging = check_packaging(plan)
    if packaging is not None and plan.pipeline.train and not packaging.exporter.sft:
        raise PreflightError(
            f"The format '{packaging.format}' is for other trainers than nexa's.",
            "Set package.format to prompt-completion or messages, or take the train section out.",
            plan.pipeline.place("package.format"),
        )


def _check_later_phases(plan: Plan) -> None:
    """What training and evaluation name is there, and so is what they need."""
    packaging = check_packaging(plan)
    check_training(plan, chat=packaging is not None and packaging.exporter.chat)
    check_evaluation(plan, bind_items(plan))


def check_prompts(plan: Plan) -> None:
    """Refuse a prompt that needs a column which no source row and no earlier step has."""
    known = {*plan.source_columns, "id"}
    for step in plan.pipeline.steps:
        prompt = plan.prompts.get(step.id)
        known |= set(step.vary) if isinstance(step, GenerateStep) else set()
        if prompt is not None:
            given = _judged(plan) if isinstance(step, JudgeStep) else set()
            missing = [name for name in prompt.inputs if name not in known | given]
            if missing:
                listed = ", ".join(sorted(known - {"id"})) or "none"
                raise PreflightError(
                    f"The prompt '{prompt.name}' of step '{step.id}' needs the column "
                    f"'{missing[0]}'. Columns there are by then: {listed}.",
                    "Rename a source column with source.map, or use another prompt.",
                    plan.pipeline.place(step.id),
                )
        if isinstance(step, GenerateStep):
            known |= {step.into}


def _judged(plan: Plan) -> set[str]:
    """What a rubric is given under names of its own, whatever the columns are called."""
    return {"answer", "a", "b", *(["question"] if judged_columns(plan)[0] else [])}


def _check_pilot(plan: Plan) -> None:
    pilot = plan.pipeline.pilot
    if plan.gate is None:
        return
    _check_slices(plan)
    if pilot.rows == "all":
        return
    rows = pilot.rows if isinstance(pilot.rows, int) else None
    hopeless = never_passes(plan.gate, plan.gate.alpha(pilot.max_iterations), rows)
    if hopeless is not None:
        raise hopeless


def _check_slices(plan: Plan) -> None:
    """A gate slices by columns that the source or the steps bring."""
    made = {step.into for step in plan.pipeline.generate_steps}
    varied = {name for step in plan.pipeline.generate_steps for name in step.vary}
    columns = {*plan.source_columns, *made, *varied}
    for column in plan.slices:
        if column not in columns:
            raise UnknownNameError(
                "column to slice by", column, columns, plan.gate.place if plan.gate else None
            )


def _check_money(plan: Plan, steps: Sequence[Step]) -> list[str]:
    """Under a budget every paid role has a price and a bound, and one call fits; stale prices warn."""
    paid: dict[str, Role] = {}
    for step in steps:
        for line in (line for role in roles_of(step) for line in plan.lines(role)):
            if not is_local(line.role):
                paid[line.role.model] = line.role
                if plan.pipeline.budget is not None:
                    _require_bound(plan, step, line)
    for role in reviewer_roles(plan):
        for line in plan.lines(role):
            if not is_local(line.role):
                paid[line.role.model] = line.role
                if plan.pipeline.budget is not None and line.rates is None:
                    raise _unknown_price(plan, line, role)
    return warn_of_age(paid)


def _unknown_price(plan: Plan, line: Line, role: str) -> PreflightError:
    return PreflightError(
        f"What '{line.role.model}' costs is unknown, so no budget can be kept.",
        "Give the role a price in dollars per million tokens: price: {input: …, output: …}.",
        plan.pipeline.place(f"models.{role}"),
    )


def _require_bound(plan: Plan, step: Any, line: Line) -> None:
    budget = plan.pipeline.budget
    assert budget is not None
    if line.rates is None:
        raise _unknown_price(plan, line, step.model)
    writes = isinstance(step, GenerateStep)
    sampling = plan.pipeline.effective_sampling(step) if writes else {}
    most = sampling.get("max_tokens")
    if writes and most is None:
        raise PreflightError(
            f"The step '{step.id}' sets no max_tokens, so one call of '{line.role.model}' could "
            "cost anything and no budget can be kept.",
            "Set sampling.max_tokens on the role or the step.",
            plan.pipeline.place(step.id),
        )
    judged = JUDGE_TOKENS if isinstance(step, JudgeStep) else 1
    least = line.rates.bound(1, most or judged)
    open_nano = round(budget.usd * NANO * (budget.pilot_share or 1.0))
    if least > open_nano:
        raise PreflightError(
            f"One call of '{line.role.model}' in step '{step.id}' may cost {in_dollars(least)}, "
            f"and the pilot may spend {in_dollars(open_nano)} in all.",
            "Raise budget.usd or budget.pilot_share, or lower max_tokens.",
            plan.pipeline.place("budget"),
        )


def _check_disk(artifacts: Path) -> None:
    artifacts.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(artifacts).free
    if free < LEAST_FREE_BYTES:
        raise PreflightError(
            f"Only {free / 1e6:,.0f} MB are free where runs are kept ({artifacts}).",
            f"Free at least {LEAST_FREE_BYTES / 1e6:,.0f} MB, or use another --workspace.",
        )
