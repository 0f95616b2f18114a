"""From the rows that were asked for to those that were accepted, and what became of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from nexa_core.records import State
from nexa_core.report.figures import show_count, show_share
from nexa_core.report.folder import Facts, UnitFacts
from nexa_core.report.losses import count_losses
from nexa_core.report.plots import draw_part

__all__ = ["Fall", "UnitLine", "list_units", "trace_yield"]


@dataclass(frozen=True)
class Fall:
    """A line of the waterfall: rows that are left, or that fell away for a reason."""

    label: str
    rows: int
    share: str
    bar: Markup
    kind: str


@dataclass(frozen=True)
class UnitLine:
    """Rows of an iteration or of scale by state."""

    name: str
    shards: int
    rows: int
    accepted: int
    rejected: int
    failed: int
    surplus: int
    share: str


def trace_yield(facts: Facts) -> list[Fall]:
    """The waterfall over the rows that count; empty where no shard is committed."""
    totals = facts.totals
    whole = sum(totals.rows.values())
    if not whole:
        return []
    falls = [_fall("Rows asked for", 0, whole, whole, "asked")]
    left = whole
    losses = count_losses(facts)
    lost = [(f"rejected: {reason}", n, "rejected") for reason, n in _sort(losses.rejected)]
    lost += [(f"failed: {reason}", n, "failed") for reason, n in _sort(losses.failed)]
    lost.append(("surplus: after the wanted number", totals.rows.get(State.SURPLUS, 0), "surplus"))
    for label, rows, kind in lost:
        if rows > 0:
            left -= rows
            falls.append(_fall(label, max(left, 0), rows, whole, kind))
    accepted = totals.rows.get(State.ACCEPTED, 0)
    falls.append(_fall("Accepted", 0, accepted, whole, "accepted"))
    return falls


def list_units(facts: Facts) -> list[UnitLine]:
    """Every iteration, then scale."""
    return [_line(unit) for unit in facts.units]


def _line(unit: UnitFacts) -> UnitLine:
    totals = unit.totals
    rows = sum(totals.rows.values())
    accepted = totals.rows.get(State.ACCEPTED, 0)
    return UnitLine(
        name="Scale" if unit.number is None else f"Iteration {unit.number}",
        shards=totals.shards,
        rows=rows,
        accepted=accepted,
        rejected=totals.rows.get(State.REJECTED, 0),
        failed=totals.rows.get(State.FAILED, 0),
        surplus=totals.rows.get(State.SURPLUS, 0),
        share=show_share(accepted / rows) if rows else "–",
    )


def _sort(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))


def _fall(label: str, start: int, rows: int, whole: int, kind: str) -> Fall:
    share = show_share(rows / whole)
    told = f"{label}: {show_count(rows)} of {show_count(whole)} rows, {share}"
    return Fall(label, rows, share, draw_part(told, start, rows, whole, kind), kind)
