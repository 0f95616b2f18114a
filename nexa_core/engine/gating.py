"""Brings a unit's tallies to the gate, asks the reviewers, and keeps what follows as a record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nexa_core.engine.consulting import Consulted, consult
from nexa_core.engine.context import Context
from nexa_core.engine.plan import Plan
from nexa_core.engine.sampling import shorten
from nexa_core.engine.seating import roles_of_reviewer
from nexa_core.engine.unit import Unit
from nexa_core.engine.verdicts import decide_phase
from nexa_core.gates import Gate, Look, Ruling, assess_gate, conclude, decide
from nexa_core.records import Decision, Evidence, GateCheck, Verdict
from nexa_core.reviews import (
    Review,
    as_recorded,
    find_overridden,
    read_reviews,
    trace_patches,
    write_review,
)
from nexa_core.store.files import replace_file
from nexa_core.store.manifest import Totals, total_entries

if TYPE_CHECKING:
    from nexa_core.engine.pilot import Iteration

REVIEWED_ROWS = 8
SAMPLED_FROM = 200


@dataclass(frozen=True)
class Judged:
    """What the gate and the reviewers decided about an iteration.

    `changes` maps parameter paths to [old, new], proposed only while it is `waiting`; `review` is
    the hash of the record, and `signer` the person who decided, where one did.
    """

    decision: Decision
    reason: str
    checks: tuple[GateCheck, ...] = ()
    extend_rows: int = 0
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    patch_reason: str = ""
    waiting: bool = False
    review: str = ""
    signer: str = ""

    @property
    def passed(self) -> frozenset[str]:
        """The rules that have passed; they stay passed within the iteration."""
        return frozenset(c.metric for c in self.checks if c.verdict is Verdict.PASS)

    @classmethod
    def of(cls, review: Review) -> Judged:
        """The decision that a record holds."""
        return cls(
            Decision(review.decision),
            review.reason,
            review.evidence().checks,
            review.extend_rows,
            review.changes,
            review.patch_reason,
            review.waiting,
            review.hash,
            str(review.signature["signer"]) if review.signature else "",
        )


async def judge(
    context: Context,
    plan: Plan,
    unit: Unit,
    number: int,
    values: Mapping[str, Any],
    earlier: Sequence[Iteration],
    before: Judged | None,
    planned: int = 0,
) -> tuple[Judged, bool]:
    """The decision on what the unit holds, and whether it is new; a recorded one stands.

    `planned` is how many rows the iteration was to begin with; a smoke looks at fewer.
    """
    if plan.gate is None:
        return Judged(Decision.PROCEED, "There is no gate: rows are collected."), True
    totals = total_entries(unit.entries)
    look = replace(_look(plan, plan.gate, unit, totals, before), planned=planned)
    stored = _find_review(context, number, look.rows)
    if stored is not None:
        return Judged.of(stored), False
    evidence = _evidence(context, plan, look, totals, unit, number, values, earlier)
    most = evidence.max_iterations
    ruling = decide(evidence.checks, number, most, look.rows, look.cap, look.planned)
    found = await consult(
        context, plan, plan.gate, ruling, evidence, unit.folder.reviews, look.rows
    )
    review = _record(context, plan, look, totals, evidence, ruling, found)
    written = write_review(context.reviews, review)
    write_summary(unit, totals, evidence.checks, written.decision)
    return Judged.of(written), True


def _look(plan: Plan, gate: Gate, unit: Unit, totals: Totals, before: Judged | None) -> Look:
    pilot = plan.pipeline.pilot
    most = max(gate.max_rows, pilot.rows if isinstance(pilot.rows, int) else 0)
    return Look(
        gate.alpha(pilot.max_iterations),
        totals.source_rows,
        totals.source_rows if unit.exhausted else max(most, totals.source_rows),
        # Every row of a finite source was measured and nothing is to be scaled.
        unit.is_whole and plan.pipeline.scale is None,
        before.passed if before else frozenset(),
    )


def is_reviewed(context: Context, number: int) -> bool:
    """Whether a decision about this iteration is on record."""
    return any(review.iteration == number for review in read_reviews(context.reviews, "pilot"))


def _find_review(context: Context, number: int, rows: int) -> Review | None:
    """The newest record on these rows: where a person signed it, the signature's."""
    for review in reversed(read_reviews(context.reviews, "pilot")):
        if review.iteration == number and review.look.rows == rows:
            return review
    return None


def _evidence(
    context: Context,
    plan: Plan,
    look: Look,
    totals: Totals,
    unit: Unit,
    number: int,
    values: Mapping[str, Any],
    earlier: Sequence[Iteration],
) -> Evidence:
    assert plan.gate is not None
    space = {
        path: each.model_dump(mode="json", exclude_none=True)
        for path, each in plan.pipeline.search_space.items()
    }
    checks = assess_gate(plan.gate, totals.metrics, look)
    track = trace_patches(read_reviews(context.reviews, "pilot"), number, checks)
    return Evidence(
        number,
        plan.pipeline.pilot.max_iterations,
        checks,
        as_recorded(dict(values)),
        space,
        tuple(as_recorded(row) for row in _sample(unit)),
        tuple(as_recorded(past.as_history()) for past in earlier),
        {step.id: step.into for step in plan.pipeline.generate_steps},
        tuple(as_recorded(one) for one in track),
    )


def _sample(unit: Unit) -> list[dict[str, Any]]:
    """A few rows of the newest shard: rejected ones first, then accepted ones."""
    if not unit.entries:
        return []
    rows = unit.read(unit.entries[-1]).slice(0, SAMPLED_FROM).to_pylist()
    rows.sort(key=lambda row: row["state"] == "accepted")
    half = REVIEWED_ROWS // 2
    chosen = rows if len(rows) <= REVIEWED_ROWS else [*rows[:half], *rows[-half:]]
    return [shorten(row) for row in chosen]


def _record(
    context: Context,
    plan: Plan,
    look: Look,
    totals: Totals,
    evidence: Evidence,
    ruling: Ruling,
    consulted: Consulted,
) -> Review:
    gate, opinions = plan.gate, consulted.opinions
    assert gate is not None
    concluded = conclude(ruling, opinions, evidence)
    return Review(
        run=context.run.id,
        iteration=evidence.iteration,
        max_iterations=evidence.max_iterations,
        gate=gate.as_json(),
        gate_hash=gate.hash,
        look=look,
        tallies=totals.metrics,
        checks=[check.as_json() for check in evidence.checks],
        ruling=ruling.decision,
        decision=concluded.decision,
        reason=concluded.reason,
        extend_rows=concluded.extend_rows,
        changes={path: list(pair) for path, pair in concluded.changes.items()},
        patch_reason=concluded.patch_reason,
        waiting=concluded.waiting,
        refused=concluded.refused,
        opinions=[opinion.as_json() for opinion in opinions],
        parameters=evidence.parameters,
        search_space=evidence.search_space,
        history=evidence.history,
        samples=evidence.samples,
        columns=evidence.columns,
        asks=consulted.asks,
        track=evidence.track,
        prices=_describe_prices(plan, gate),
        cost_nano=consulted.cost_nano,
    )


def _describe_prices(plan: Plan, gate: Gate) -> dict[str, Any]:
    """What the reviewers' models cost in dollars per million tokens, by role."""
    roles = [role for use in gate.reviewers for role in roles_of_reviewer(plan, use)]
    found = {}
    for role in roles:
        rates = plan.lines(role)[0].rates
        if rates is not None:
            per_million = {"input": rates.input / 1e9, "output": rates.output / 1e9}
            found[role] = {"usd_per_million": per_million, "date": rates.date}
    return found


def judge_scale(context: Context, plan: Plan, units: Sequence[Unit]) -> str | None:
    """Decide anew over every row of the dataset, and keep the record; why it fails, None where not.

    What a person overrode stops nothing here either.
    """
    if plan.gate is None:
        return None
    totals = total_entries(entry for unit in units for entry in unit.entries)
    rows = totals.source_rows
    review = decide_phase(
        context,
        "scale",
        plan.gate.renamed("scale_qc"),
        Look(plan.gate.alpha(plan.pipeline.pilot.max_iterations), rows, rows),
        totals.metrics,
        terms={"overridden": sorted(find_overridden(read_reviews(context.reviews)))},
    )
    failed = review.decision != Decision.PROCEED
    write_summary(units[-1], totals, review.evidence().checks, "FAIL" if failed else "PASS")
    return f"The gate no longer holds over all rows: {review.reason}" if failed else None


def write_summary(
    unit: Unit, totals: Totals, checks: Sequence[GateCheck], decision: str | None
) -> None:
    """Write the unit's `qc_summary.json`: derived from the manifest, safe to delete."""
    summary = {
        "rows": totals.rows,
        "reasons": totals.reasons,
        "metrics": totals.metrics,
        "checks": [check.as_json() for check in checks],
        "decision": decision,
    }
    replace_file(unit.folder.qc_summary_path, json.dumps(summary, indent=1).encode(), durable=False)
