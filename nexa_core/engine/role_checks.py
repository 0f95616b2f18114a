"""Asks the model of every role, before anything is paid: is it there, and does it take the sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nexa_core.engine.plan import Plan
from nexa_core.engine.seating import reviewer_roles
from nexa_core.engine.tries import Line
from nexa_core.errors import PreflightError
from nexa_core.pipeline import GenerateStep, JudgeStep, Step, roles_of
from nexa_core.prices import is_local
from nexa_core.protocols import Unanswered
from nexa_core.structured import WEAK


def check_roles(plan: Plan, asking: Sequence[Step]) -> list[str]:
    """Raise PreflightError for what no run could succeed with; return what may pass as warnings.

    `asking` are the steps whose models are to be asked.

    Faults of several roles are told in one error, so that they can be mended in one go. An endpoint
    that does not answer is no fault where another model of its role does.
    """
    steps: dict[str, list[Any]] = {}
    for step in asking:
        for role in roles_of(step):
            steps.setdefault(role, []).append(step)
    for role in reviewer_roles(plan):
        steps.setdefault(role, [])
    found = {role: _ask_lines(plan, role) for role in steps}
    faulty = {role: told for role, lines in found.items() if (told := _tell_faults(role, lines))}
    if faulty:
        raise PreflightError(
            "\n".join(faulty.values()),
            f"Nothing was paid. Mend {' and '.join(f'`models.{role}`' for role in faulty)}.",
            plan.pipeline.place(f"models.{next(iter(faulty))}"),
        )
    for role, its_steps in steps.items():
        for step in its_steps:
            _check_sampling(plan, step, role, found[role])
    judges = dict.fromkeys(
        role for step in asking if isinstance(step, JudgeStep) for role in step.roles
    )
    odd = [each for role, lines in found.items() for each in _tell_absent(role, lines)]
    return [*odd, *(each for role in judges for each in _tell_weak(role, found[role]))]


def find_unpriced(plan: Plan) -> tuple[str, ...]:
    """References of the models that a run asks and whose tokens cost nobody knows what."""
    used = [role for step in plan.pipeline.asking_steps for role in roles_of(step)]
    used += reviewer_roles(plan)
    lines = (line for name in used for line in plan.lines(name))
    unknown = (line.role.model for line in lines if line.rates is None and not is_local(line.role))
    return tuple(dict.fromkeys(unknown))


Found = list[tuple[Line, list[str]]]


def _ask_lines(plan: Plan, role: str) -> Found:
    return [(line, line.model.preflight({})) for line in plan.lines(role)]


def _tell_faults(role: str, found: Found) -> str:
    """What speaks against a role, in one sentence; empty when nothing does."""
    serves = any(not faults for _, faults in found)
    grave = [
        (line, fault)
        for line, faults in found
        for fault in faults
        if not (serves and isinstance(fault, Unanswered))
    ]
    told = "; ".join(_name_faults(grave, role))
    return f"{told}." if told else ""


def _tell_absent(role: str, found: Found) -> Iterator[str]:
    for line, faults in found:
        for fault in faults:
            yield f"'{line.role.model}' of the role '{role}' does not serve now: {fault}."


def _tell_weak(role: str, found: Found) -> Iterator[str]:
    """Models of a judge that nothing holds to the form of its verdict, unless somebody chose that."""
    for line, _ in found:
        form = getattr(line.model, "form", None)
        if form is not None and form.mode in WEAK and line.role.structured is None:
            yield (
                f"'{line.role.model}' of the judge's role '{role}' takes no JSON schema and no forced "
                f"function: it is told the form in words (`structured: {form.mode}`), and replies that "
                "do not fit are asked again."
            )


def _name_faults(faults: list[tuple[Line, str]], role: str) -> Iterator[str]:
    before: Line | None = None
    for line, fault in faults:
        who = f"The model '{line.role.model}' of the role '{role}' cannot be asked: "
        yield fault if line is before else f"{who}{fault}"
        before = line


def _check_sampling(plan: Plan, step: Any, role: str, found: Found) -> None:
    sampling = plan.pipeline.effective_sampling(step)
    for line, known in found:
        faults = [fault for fault in line.model.preflight(sampling) if fault not in known]
        if faults:
            own = isinstance(step, GenerateStep | JudgeStep) and step.sampling.as_dict()
            where = f"{step.id}.sampling" if own else f"models.{role}.sampling"
            raise PreflightError(
                f"The model '{line.role.model}' cannot run step '{step.id}': {'; '.join(faults)}.",
                "Change the sampling, or use another model.",
                plan.pipeline.place(where) or plan.pipeline.place(step.id),
            )
