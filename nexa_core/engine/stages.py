"""The stages of a shard: a plan's steps, each ready to run, with what `accept` rejects in between."""

from __future__ import annotations

from typing import Any

from nexa_core.engine.calls import Calls
from nexa_core.engine.plan import Plan
from nexa_core.engine.seating import judged_columns, seat_judge
from nexa_core.engine.steps.accepting import AcceptEarly, Term
from nexa_core.engine.steps.check import CheckRows, NamedCheck
from nexa_core.engine.steps.critic import Critic
from nexa_core.engine.steps.generate import Generate
from nexa_core.engine.steps.judge import JudgeRows
from nexa_core.engine.steps.stream import Step
from nexa_core.pipeline import CheckStep, CriticStep, GenerateStep


def build_stages(plan: Plan, calls: Calls, retry: bool = False) -> list[Step]:
    """The stages of one shard, from the first, or from the retry step with the retry's prompt."""
    stages: list[Step] = []
    steps = list(plan.pipeline.steps)
    if retry:
        start = next(i for i, s in enumerate(steps) if s.id == plan.retry.step)
        steps = steps[start:]
    for step in steps:
        stages.append(_build_stage(plan, step, calls, retry))
        early = _terms_after(plan, step)
        if early:
            stages.append(AcceptEarly(f"accept-{step.id}", early))
    return stages


def _build_stage(plan: Plan, step: Any, calls: Calls, retry: bool) -> Step:
    if isinstance(step, CheckStep):
        return CheckRows(step.id, _row_checks(plan, step))
    seed = plan.pipeline.seed
    if isinstance(step, CriticStep):
        return Critic(step.id, plan.caller(step), calls, plan.prompts[step.id], seed)
    if isinstance(step, GenerateStep):
        retried = retry and step.id == plan.retry.step and plan.retry.prompt is not None
        return Generate(
            step.id,
            plan.caller(step),
            calls,
            plan.prompts[f"{step.id}@retry" if retried else step.id],
            step.into,
            plan.pipeline.effective_sampling(step),
            seed,
            1 if retry else step.samples,
            step.vary,
        )
    return JudgeRows(step.id, calls, seat_judge(plan, step, *judged_columns(plan)))


def _row_checks(plan: Plan, step: CheckStep) -> list[NamedCheck]:
    return [
        NamedCheck(use.id, plan.check(use), use.on_fail, plan.check_spec(use).waits)
        for use in step.checks
        if plan.check_spec(use).over == "row"
    ]


def _terms_after(plan: Plan, step: Any) -> list[Term]:
    """The terms that a step's own scores may decide."""
    if not plan.accept_rule.eager:
        return []
    own = {use.id for use in step.checks} if isinstance(step, CheckStep) else {step.id}
    return [term for term in plan.accept_rule.terms if own & set(term.scores)]
