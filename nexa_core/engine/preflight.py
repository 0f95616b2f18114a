"""What could make a run fail or be in vain, found before anything is paid for."""

from __future__ import annotations

import shutil
from pathlib import Path

from nexa_core.engine.evaluation import check_evaluation
from nexa_core.engine.items import bind_items
from nexa_core.engine.packaging import check_packaging
from nexa_core.engine.plan import Plan
from nexa_core.engine.training import check_training
from nexa_core.errors import PreflightError
from nexa_core.gates import never_passes
from nexa_core.pipeline import GenerateStep

LEAST_FREE_BYTES = 200_000_000


def check_plan(plan: Plan, artifacts: Path) -> list[str]:
    """Raise PreflightError for what cannot work; return what is odd but no error.

    Models are built, and asked whether they take the sampling keys; nothing is asked of them.
    """
    _check_later_phases(plan)
    _check_prompts(plan)
    _check_pilot(plan)
    _check_models(plan)
    _check_disk(artifacts)
    # Built here so that a wrong option or a missing column is found before the first call.
    _ = plan.metrics, plan.set_checks
    return list(plan.pipeline.warnings)


def _check_later_phases(plan: Plan) -> None:
    """What packaging, training and evaluation name is there, and so is what they need."""
    packaging = check_packaging(plan)
    check_training(plan, chat=packaging is not None and packaging.exporter.chat)
    check_evaluation(plan, bind_items(plan))


def _check_prompts(plan: Plan) -> None:
    known = {*plan.source_columns, "id"}
    for step in plan.pipeline.steps:
        prompt = plan.prompts.get(step.id)
        if prompt is not None:
            missing = [name for name in prompt.inputs if name not in known]
            if missing:
                listed = ", ".join(sorted(known - {"id"})) or "none"
                raise PreflightError(
                    f"The prompt '{prompt.name}' of step '{step.id}' needs the column "
                    f"'{missing[0]}'. Columns there are by then: {listed}.",
                    "Rename a source column with source.map, or use another prompt.",
                    plan.pipeline.place(step.id),
                )
        if isinstance(step, GenerateStep):
            known |= {step.into, *step.vary}


def _check_pilot(plan: Plan) -> None:
    pilot = plan.pipeline.pilot
    if plan.gate is None or pilot.rows == "all":
        return
    rows = pilot.rows if isinstance(pilot.rows, int) else None
    hopeless = never_passes(plan.gate, plan.gate.alpha(pilot.max_iterations), rows)
    if hopeless is not None:
        raise hopeless


def _check_models(plan: Plan) -> None:
    for step in plan.pipeline.steps:
        if not hasattr(step, "model"):
            continue
        role = plan.pipeline.models[step.model]
        model = plan.models.get(role, plan.pipeline.place(f"models.{step.model}.model"))
        problems = model.preflight(plan.pipeline.effective_sampling(step))
        if problems:
            raise PreflightError(
                f"The model '{role.model}' cannot run step '{step.id}': {'; '.join(problems)}.",
                "Change the step's sampling, or use another model.",
                plan.pipeline.place(f"{step.id}.sampling") or plan.pipeline.place(step.id),
            )


def _check_disk(artifacts: Path) -> None:
    artifacts.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(artifacts).free
    if free < LEAST_FREE_BYTES:
        raise PreflightError(
            f"Only {free / 1e6:,.0f} MB are free where runs are kept ({artifacts}).",
            f"Free at least {LEAST_FREE_BYTES / 1e6:,.0f} MB, or use another --workspace.",
        )
