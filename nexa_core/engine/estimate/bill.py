"""Puts rows, tokens and rates together: calls, dollars and time, by step, role and phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nexa_core.engine.estimate.assumptions import Assumptions
from nexa_core.engine.estimate.doubts import find_doubts
from nexa_core.engine.estimate.lines import (
    Line,
    Price,
    add_money,
    add_seconds,
    price_line,
    sum_lines,
)
from nexa_core.engine.estimate.prompts import (
    SAMPLE_ROWS,
    StepCalls,
    count_steps,
    take_sample,
)
from nexa_core.engine.estimate.rows import (
    Flow,
    PilotRows,
    ScaleRows,
    plan_pilot,
    plan_scale,
    trace_rows,
)
from nexa_core.engine.items import bind_items
from nexa_core.engine.plan import Plan
from nexa_core.engine.seating import JUDGE_TOKENS, roles_of_reviewer
from nexa_core.pipeline import EVALUATE, Role
from nexa_core.prices import read_price_book
from nexa_core.protocols import Source

__all__ = ["estimate_plan"]

REVIEW_VOTES, REVIEW_PROMPT_TOKENS, REVIEW_ANSWER_TOKENS = 3, 6_000, 400
"""How often a reviewing model is asked about one look, what it is shown and answers: assumed."""
REVIEW_TRIES = 3
"""A vote that is no opinion is asked again, twice at most."""


def estimate_plan(
    plan: Plan,
    source: Source | None,
    assumed: Assumptions | None = None,
    sample_rows: int = SAMPLE_ROWS,
) -> dict[str, Any]:
    """What a run of this plan will ask, take and cost, as JSON. Asks no model; reads the source once.

    `usd` is expected: one iteration of the pilot that passes, and a scale that goes on like it.
    `usd_most` has every iteration at its cap, every row at every step, every answer at its limit;
    an evaluation is counted where a judge scores it. Tries that fail without a bill are in neither.
    Unknown prices make both None.
    """
    assumed = assumed or Assumptions()
    sample = take_sample(plan, source, sample_rows)
    problems: list[str] = []
    steps = count_steps(plan, sample, assumed, problems)
    flow = trace_rows(plan, assumed)
    pilot = plan_pilot(plan, flow, assumed, sample.total)
    scale = plan_scale(plan, flow, pilot, sample.total)
    used = [*(step.role for step in steps), *(use[0] for use in _reviewers(plan))]
    prices = {
        name: Price.of(role, plan.pipeline.fallbacks(name))
        for name, role in plan.pipeline.models.items()
    }
    items = _count_items(plan)
    lines = _list_lines(plan, steps, flow, pilot, scale, prices, assumed)
    lines += _list_judgements(plan, steps, items, prices, assumed)
    accepted = scale.accepted if scale else (pilot.expected * flow.accepted if pilot else 0.0)
    total = sum_lines(lines)
    book = read_price_book()
    made: dict[str, Any] = {
        "pipeline": plan.pipeline.name,
        "hash": plan.pipeline.hash,
        "source_rows": sample.total,
        "sampled_rows": len(sample.rows),
        "accepted_rows": round(accepted),
        "usd_per_accepted_row": _each(total["usd"], accepted),
        "usd_per_accepted_row_most": _each(total["usd_most"], accepted),
        **total,
        "seconds": add_seconds(lines, plan.pipeline.models),
        "pilot": _describe_pilot(pilot),
        "scale": _describe_scale(scale),
        "phases": _describe_phases(lines, pilot, scale, items, plan.pipeline.models),
        "roles": _describe_roles(lines, prices, used),
        "steps": [_describe_step(step) for step in steps],
        "prices": {"date": book.date, "hash": book.hash},
        "assumed": assumed.as_json(),
    }
    made["budget"] = _describe_budget(plan, made, lines, scale, flow)
    made["warnings"] = problems + find_doubts(plan, sample, steps, prices, used, pilot, scale)
    return made


def _reviewers(plan: Plan) -> list[tuple[str, str]]:
    """The (role, reviewer) pairs of reviewers that ask a model."""
    uses = plan.gate.reviewers if plan.gate else ()
    return [(role, use.name) for use in uses for role in roles_of_reviewer(plan, use)]


def _list_lines(
    plan: Plan,
    steps: Sequence[StepCalls],
    flow: Flow,
    pilot: PilotRows | None,
    scale: ScaleRows | None,
    prices: Mapping[str, Price],
    assumed: Assumptions,
) -> list[Line]:
    lines = []
    for phase, rows in (("pilot", pilot), ("scale", scale)):
        if rows is None:
            continue
        for step in (step for step in steps if step.step != EVALUATE):
            key = (step.step, step.retry)
            visits = flow.visits.get(key, 0.0) * rows.expected
            most = flow.most_visits.get(key, 0.0) * rows.most
            lines.append(price_line(phase, step, visits, most, prices[step.role], assumed))
    for role, name in _reviewers(plan) if pilot else ():
        asked = (REVIEW_PROMPT_TOKENS,)
        step = StepCalls(name, role, REVIEW_VOTES, asked, asked, REVIEW_ANSWER_TOKENS, JUDGE_TOKENS)
        most = float(REVIEW_TRIES * pilot.iterations) if pilot else 0.0
        lines.append(price_line("pilot", step, 1.0, most, prices[role], assumed))
    return lines


def _count_items(plan: Plan) -> int:
    """How many items a judge will score in each arm; 0 where none does."""
    settings = plan.pipeline.evaluate
    if settings is None or settings.judged is None:
        return 0
    named = bind_items(plan)
    return len(named.rows) if named is not None else settings.holdout or 0


def _list_judgements(
    plan: Plan,
    steps: Sequence[StepCalls],
    items: int,
    prices: Mapping[str, Price],
    assumed: Assumptions,
) -> list[Line]:
    """The calls of the evaluation's judge: every item once for each arm."""
    visits = float(items * len(plan.pipeline.evaluate.arms)) if plan.pipeline.evaluate else 0.0
    return [
        price_line(EVALUATE, step, visits, visits, prices[step.role], assumed)
        for step in steps
        if step.step == EVALUATE
    ]


def _each(usd: float | None, rows: float) -> float | None:
    return None if usd is None or rows <= 0 else usd / rows


def _describe_phases(
    lines: Sequence[Line],
    pilot: PilotRows | None,
    scale: ScaleRows | None,
    items: int,
    roles: Mapping[str, Role],
) -> list[dict[str, Any]]:
    sizes = [("pilot", pilot.expected, pilot.most)] if pilot is not None else []
    sizes += [("scale", scale.expected, scale.most)] if scale is not None else []
    sizes += [(EVALUATE, items, items)] if items else []
    found = []
    for phase, rows, most in sizes:
        own = [line for line in lines if line.phase == phase]
        sums = {**sum_lines(own), "seconds": add_seconds(own, roles)}
        found.append({"phase": phase, "rows": rows, "rows_most": most, **sums})
    return found


def _describe_roles(
    lines: Sequence[Line], prices: Mapping[str, Price], used: Iterable[str]
) -> list[dict[str, Any]]:
    return [
        {
            "role": name,
            "model": prices[name].role.model,
            **sum_lines([line for line in lines if line.role == name]),
            "price": prices[name].told,
            "batch": prices[name].role.batch is True,
        }
        for name in dict.fromkeys(used)
    ]


def _describe_step(step: StepCalls) -> dict[str, Any]:
    half = 1.96 * step.prompt_error
    return {
        "step": step.step,
        "role": step.role,
        "retry": step.retry,
        "calls_per_row": step.calls,
        "prompt_tokens": {
            "mean": round(step.prompt_mean, 1),
            "low": round(step.prompt_mean - half, 1),
            "high": round(step.prompt_mean + half, 1),
            "longest": max(step.most_prompts, default=0),
        },
        "completion_tokens": {"expected": step.answer, "most": step.most_answer},
        "counted_by": step.counted,
    }


def _describe_pilot(pilot: PilotRows | None) -> dict[str, Any] | None:
    if pilot is None:
        return None
    return {
        "rows_first": pilot.first,
        "rows_expected": pilot.expected,
        "rows_most": pilot.most,
        "max_iterations": pilot.iterations,
        "chance": None if pilot.chance is None else round(pilot.chance, 4),
        "slowest_rule": pilot.slowest,
    }


def _describe_scale(scale: ScaleRows | None) -> dict[str, Any] | None:
    if scale is None:
        return None
    return {"rows": scale.expected, "rows_most": scale.most, "short": scale.short}


def _describe_budget(
    plan: Plan,
    made: Mapping[str, Any],
    lines: Sequence[Line],
    scale: ScaleRows | None,
    flow: Flow,
) -> dict[str, Any] | None:
    """Whether the run fits its budget, and if not, how many accepted rows the budget buys."""
    settings = plan.pipeline.budget
    if settings is None:
        return None
    share = settings.pilot_share or 1.0
    pilot_usd = add_money(line.nano for line in lines if line.phase == "pilot")
    pilot_most = add_money(line.nano_most for line in lines if line.phase == "pilot")
    usd, most = made["usd"], made["usd_most"]
    most_fits = None
    if most is not None and pilot_most is not None:
        most_fits = most <= settings.usd and pilot_most <= settings.usd * share
    found: dict[str, Any] = {
        "usd": settings.usd,
        "pilot_usd": settings.usd * share,
        "fits": None if usd is None else usd <= settings.usd,
        "fits_at_most": most_fits,
        "pilot_fits": None if pilot_usd is None else pilot_usd <= settings.usd * share,
        "accepted_rows": None,
    }
    if found["fits"] is False or found["pilot_fits"] is False:
        judged = add_money(line.nano for line in lines if line.phase == EVALUATE) or 0.0
        found["accepted_rows"] = _rows_bought(found, pilot_usd, judged, made, scale, flow)
    return found


def _rows_bought(
    budget: Mapping[str, Any],
    pilot_usd: float | None,
    judged_usd: float,
    made: Mapping[str, Any],
    scale: ScaleRows | None,
    flow: Flow,
) -> int:
    if pilot_usd is None or not budget["pilot_fits"] or pilot_usd > budget["usd"]:
        return 0
    piloted = made["pilot"]["rows_expected"] * flow.accepted if made["pilot"] else 0.0
    if scale is None or not scale.expected:
        return round(piloted)
    fixed = pilot_usd + judged_usd
    each = (made["usd"] - fixed) / scale.expected
    rows = piloted + max(0.0, budget["usd"] - fixed) / each * flow.accepted if each else 0
    return int(rows)
