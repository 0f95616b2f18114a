"""Who judges rows and who reviews a gate: built from a plan, with the roles that they ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nexa_core.engine.plan import Plan
from nexa_core.engine.steps.judge import SeatedJudge
from nexa_core.engine.tries import Caller
from nexa_core.errors import GateFileError
from nexa_core.gates import ReviewerUse
from nexa_core.pipeline import JudgeStep
from nexa_core.prompts import Prompt
from nexa_core.protocols import Judge, Reviewer
from nexa_core.specs import JudgeOrder

JUDGE_TOKENS = 1_024
"""The most tokens of a judgement where nobody says another number."""


def seat_judge(
    plan: Plan, step: JudgeStep, question: str | None, answer: str, rubric: Prompt | None = None
) -> SeatedJudge:
    """The judge of a step with everything to ask by; `question` and `answer` are columns."""
    callers = {role: Caller(step.id, role, plan.lines(role)) for role in step.roles}
    sampling = {
        role: {**own, **step.sampling.as_dict()}
        for role, own in sampling_of_roles(plan, step.roles).items()
    }
    judge = _build_judge(plan, step, question, answer, rubric or plan.prompts.get(step.id))
    return SeatedJudge(step.id, judge, callers, sampling, plan.pipeline.seed)


def _build_judge(
    plan: Plan, step: JudgeStep, question: str | None, answer: str, rubric: Prompt | None
) -> Judge:
    """The judge of a step, built once."""
    if step.id not in plan.built:
        place = plan.pipeline.place(f"{step.id}.method") or plan.pipeline.place(step.id)
        spec = plan.plugins.judges.get(step.method, place)
        order = JudgeOrder(
            step.id,
            rubric,
            step.roles,
            question,
            answer,
            step.combine,
            step.escalate.between if step.escalate else None,
        )
        plan.built[step.id] = plan.plugins.build_judge(
            spec, order, step.options, plan.pipeline.locate(f"{step.id}.options")
        )
    built: Judge = plan.built[step.id]
    return built


def judged_columns(plan: Plan) -> tuple[str | None, str]:
    """The columns that hold what was asked and what was answered."""
    answer = plan.pipeline.answer_field(plan.source_columns) or "response"
    written = [step.into for step in plan.pipeline.generate_steps]
    known = [*plan.source_columns, *written]
    usual = ("prompt", "instruction", "question", "messages")
    return next((name for name in usual if name in known and name != answer), None), answer


def sampling_of_roles(plan: Plan, roles: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The sampling of roles that judge or review: greedy and bounded, unless they say otherwise."""
    own = {"temperature": 0.0, "max_tokens": JUDGE_TOKENS}
    return {role: {**own, **plan.pipeline.models[role].sampling.as_dict()} for role in roles}


def build_reviewer(plan: Plan, use: ReviewerUse) -> Reviewer:
    """A reviewer as the gate names it, with the prompt that the run began with."""
    spec = plan.plugins.reviewers.get(use.name, use.place)
    facts = {
        "instructions": plan.prompts.get(reviewer_prompt_key(use)),
        "folder": str(plan.plugins.workspace.root),
    }
    built: Reviewer = plan.plugins.build(spec, dict(use.options), facts, use.place, GateFileError)
    return built


def roles_of_reviewer(plan: Plan, use: ReviewerUse) -> tuple[str, ...]:
    """The role that a reviewer asks; none for one that asks no model."""
    spec = plan.plugins.reviewers.get(use.name, use.place)
    return (str(use.options.get("model")),) if spec.asks else ()


def reviewer_roles(plan: Plan) -> tuple[str, ...]:
    """The roles that the gate's reviewers ask."""
    uses = plan.gate.reviewers if plan.gate else ()
    return tuple(dict.fromkeys(role for use in uses for role in roles_of_reviewer(plan, use)))


def reviewer_prompt_key(use: ReviewerUse) -> str:
    """The key of a reviewer's prompt among the plan's; no step has such an id."""
    return f"reviewer:{use.options.get('prompt') or use.name}"
