"""The decision trail: each look of the gate as a step, with what it measured and what it changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from markupsafe import Markup

from nexa_core.gates import Gate
from nexa_core.gates.wording import describe, describe_rule
from nexa_core.records import GateCheck, Verdict
from nexa_core.report.figures import show_count, show_number, show_range, show_share, show_value
from nexa_core.report.folder import Facts, UnitFacts
from nexa_core.report.plots import draw_check
from nexa_core.reviews import Review
from nexa_core.reviews.markdown import explain_check

__all__ = ["CheckLine", "Parameter", "Step", "trace_decisions"]


@dataclass(frozen=True)
class CheckLine:
    """One rule of a look, ready to be shown."""

    verdict: str
    rule: str
    hard: bool
    counted: str
    value: str
    bounds: str
    bar: Markup | None
    explained: str
    axis: str
    """What the bar shows where it is not the rate itself."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an iteration; `before` is its value in the iteration before, where it moved."""

    path: str
    value: str
    before: str | None


@dataclass(frozen=True)
class Step:
    """One step of the trail: a look of the gate, an undecided iteration, or the check over all rows."""

    title: str
    decision: str
    reason: str
    rows: str
    basis: str = ""
    parameters: Sequence[Parameter] = ()
    checks: Sequence[CheckLine] = ()
    opinions: Sequence[Mapping[str, Any]] = ()
    refused: Sequence[str] = ()
    changes: Sequence[tuple[str, str, str]] = ()
    extend_rows: int = 0
    waiting: bool = False
    marks: Sequence[str] = ()
    hash: str = ""

    @property
    def kind(self) -> str:
        """The decision as a class name."""
        return self.decision if self.decision.isalpha() else "none"


LATER = {
    "drift": "Drift of scale",
    "scale_qc": "Scale",
    "dataset_qc": "Dataset",
    "training_health": "Training",
    "evaluation_plan": "Evaluation, before it began",
    "evaluation": "Evaluation",
}
"""What a reader calls the decisions after the pilot."""
UNITS = {"train": "steps", "evaluate": "items"}


def trace_decisions(facts: Facts) -> list[Step]:
    """Every step, in order: looks as reviewed, iterations without a decision, then scale."""
    steps: list[Step] = []
    before: Mapping[str, Any] = {}
    for unit in facts.iterations:
        looks = [review for review in facts.reviews if review.iteration == unit.number]
        parameters = _compare_parameters(unit.parameters, before)
        for number, review in enumerate(looks, 1):
            which = f", look {number}" if len(looks) > 1 else ""
            steps.append(_show_review(review, which, parameters if number == 1 else ()))
        if not looks:
            steps.append(_show_unreviewed(facts, unit, parameters))
        before = unit.parameters
    later = [review for review in facts.reviews if review.phase != "pilot"]
    steps += [_show_review(review) for review in later]
    recorded = any(review.gate_name == "scale_qc" for review in later)
    if facts.scale is not None and facts.scale.summary and not recorded:
        steps.append(_show_scale(facts.scale.summary))
    return steps


def _compare_parameters(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Parameter]:
    return [
        Parameter(
            path,
            show_value(value),
            show_value(before[path]) if path in before and before[path] != value else None,
        )
        for path, value in now.items()
    ]


def _show_review(review: Review, which: str = "", parameters: Sequence[Parameter] = ()) -> Step:
    title = f"Iteration {review.iteration} of {review.max_iterations}{which}"
    if review.phase != "pilot":
        title = LATER.get(review.gate_name, f"{review.gate_name} after {review.phase}")
    rules = {(rule.key, rule.hard): rule for rule in Gate.from_json(review.gate).rules}
    lines = []
    for check in _read_checks(review.checks):
        rule = rules.get((check.metric, check.hard))
        lines.append(_show_check(check, explain_check(check, rule) if rule else describe(check)))
    look = review.look
    return Step(
        title=title,
        decision=review.decision,
        reason=review.reason,
        rows=f"{show_count(look.rows)} {UNITS.get(review.phase, 'rows')}",
        basis=_describe_basis(look.census, look.alpha) if review.method == "gate" else "",
        parameters=parameters,
        checks=lines,
        opinions=review.opinions,
        refused=review.refused,
        changes=[(p, show_value(old), show_value(new)) for p, (old, new) in review.changes.items()],
        extend_rows=review.extend_rows,
        waiting=review.waiting,
        hash=review.hash,
    )


def _describe_basis(census: bool, alpha: float) -> str:
    if census:
        return "every row there is was measured, so values decide"
    return f"each bound holds at {show_share(1 - alpha)}, at every look"


def _show_unreviewed(facts: Facts, unit: UnitFacts, parameters: Sequence[Parameter]) -> Step:
    gated = facts.record.get("gate") is not None
    reason = (
        "The gate has not decided on this iteration."
        if gated
        else "The pipeline has no gate: rows are collected."
    )
    rows = sum(unit.totals.rows.values())
    return Step(
        title=f"Iteration {unit.number}",
        decision="not decided" if gated else "no gate",
        reason=reason,
        rows=f"{show_count(rows)} rows",
        parameters=parameters,
    )


def _show_scale(summary: Mapping[str, Any]) -> Step:
    checks = _read_checks(summary.get("checks") or ())
    verdict = str(summary.get("decision") or "not decided")
    told = {
        "PASS": "Recomputed over every row of the dataset, no hard rule fails.",
        "FAIL": "Recomputed over every row of the dataset, a hard rule fails.",
    }.get(verdict, "Recomputed over every row of the dataset.")
    return Step(
        title="Scale",
        decision=verdict,
        reason=told,
        rows=f"{show_count(sum(summary.get('rows', {}).values()))} rows",
        checks=[_show_check(check, describe(check)) for check in checks],
    )


def _read_checks(checks: Iterable[Mapping[str, Any]]) -> list[GateCheck]:
    names = {f.name for f in fields(GateCheck)}
    known = ({k: v for k, v in check.items() if k in names} for check in checks)
    return [GateCheck(**{**check, "verdict": Verdict(check["verdict"])}) for check in known]


def _show_check(check: GateCheck, explained: str) -> CheckLine:
    bounds = ""
    if check.lower is not None and check.upper is not None and check.basis != "census":
        bounds = show_range(check.lower, check.upper)
    counted = f"{show_count(check.n)} rows"
    if check.aggregate == "difference":
        counted = f"{show_count(check.k)} won, {show_count(check.n - check.k)} lost"
    elif check.aggregate != "mean":
        counted = f"{show_count(check.k)} / {show_count(check.n)}"
    value = "–"
    if check.value is not None:
        rate = check.aggregate == "rate"
        value = show_share(check.value) if rate else show_number(check.value)
    return CheckLine(
        verdict=check.verdict,
        rule=describe_rule(check),
        hard=check.hard,
        counted=counted,
        value=value,
        bounds=bounds if check.n else "",
        bar=_draw(check),
        explained=explained,
        axis=_name_axis(check),
    )


def _name_axis(check: GateCheck) -> str:
    if check.aggregate != "median" or check.rule == "equals":
        return ""
    side = "under" if check.rule == "below" else "at or over"
    return f"share of rows {side} {check.threshold:g}"


def _draw(check: GateCheck) -> Markup | None:
    """The bar of a rule that is about a share; a mean has no interval and is not drawn."""
    median = check.aggregate == "median"
    if (
        check.aggregate in ("mean", "difference")
        or check.basis == "drift"
        or (median and check.rule == "equals")
        or not check.n
    ):
        return None
    threshold = 0.5 if median else check.threshold
    allowed = {
        "below": (0.0, threshold),
        "at_least": (threshold, 1.0),
        "equals": (threshold, threshold),
    }["at_least" if median else check.rule]
    interval = None
    if check.lower is not None and check.upper is not None and check.basis != "census":
        interval = (check.lower, check.upper)
    label = f"{check.verdict}: {describe(check)}"
    return draw_check(label, check.verdict, allowed, threshold, check.k / check.n, interval)
