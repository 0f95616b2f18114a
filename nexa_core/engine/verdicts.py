"""Decisions on what comes after the pilot: measured by a gate, kept in the run's chain, told once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexa_core.engine.context import Context
from nexa_core.events import GateDecided
from nexa_core.gates import Gate, Look
from nexa_core.reviews import Method, Review, read_reviews, reassess, write_review

__all__ = ["decide_phase", "is_about"]


def decide_phase(
    context: Context,
    phase: str,
    gate: Gate,
    look: Look,
    tallies: Mapping[str, Mapping[str, Any]],
    method: Method = "gate",
    terms: Mapping[str, Any] | None = None,
) -> Review:
    """Decide on a phase and keep the record; the same counts are decided once, and a signature stands.

    PROCEED, or STOP where a hard rule fails; a drift waits for a person.
    """
    draft = draft_review(context, phase, gate, look, tallies, method, terms or {})
    earlier = [r for r in read_reviews(context.reviews, phase) if r.gate_name == gate.name]
    if earlier and is_about(earlier[-1], draft):
        if not context.has_told(earlier[-1].hash):  # a kill came between
            _announce(context, earlier[-1])
        return earlier[-1]
    written = write_review(context.reviews, draft)
    _announce(context, written)
    return written


def _announce(context: Context, review: Review) -> None:
    context.announcer.announce(
        GateDecided(
            0,
            review.decision,
            review.checks,
            review.hash,
            review.reason,
            phase=review.phase,
            waiting=review.waiting,
        )
    )


def draft_review(
    context: Context,
    phase: str,
    gate: Gate,
    look: Look,
    tallies: Mapping[str, Mapping[str, Any]],
    method: Method,
    terms: Mapping[str, Any],
) -> Review:
    """The record as it will be written: checks and decision as a replay computes them."""
    draft = Review(
        run=context.run.id,
        iteration=0,
        max_iterations=context.plan.pipeline.pilot.max_iterations if phase == "scale" else 1,
        gate=gate.as_json(),
        gate_hash=gate.hash,
        look=look,
        tallies=tallies,
        checks=(),
        ruling="",
        decision="",
        reason="",
        phase=phase,
        method=method,
        terms=terms,
    )
    found = reassess(draft)
    return replace(
        draft,
        checks=[check.as_json() for check in found.checks],
        ruling=found.ruling.decision,
        decision=found.ruling.decision,
        reason=found.ruling.reason,
        waiting=found.waiting,
    )


def is_about(review: Review, draft: Review) -> bool:
    """Whether a record decides on the very counts of a draft, by the gate or by a person."""
    old, new = review.as_json(), draft.as_json()
    return all(old[key] == new[key] for key in ("gate_hash", "look", "tallies", "terms", "method"))
