"""Decides again from a record's own counts, and says where the record disagrees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nexa_core.gates import (
    Conclusion,
    Gate,
    Ruling,
    conclude,
    decide,
    describe_plan,
    drift_alpha,
    rule_on_drift,
    settle,
)
from nexa_core.records import Decision, Evidence, GateCheck, Opinion
from nexa_core.reviews.asks import RecordedAsker
from nexa_core.reviews.record import Review, as_recorded
from nexa_core.reviews.signing import apply_signature

__all__ = ["Difference", "Reassessed", "reassess", "replay"]

_DIGITS = 1e-12

Again = Callable[[Evidence, RecordedAsker], Opinion]
"""A reviewer that gives the same opinion on the same evidence and the same replies."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the record says and that does not come out again."""

    what: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded!r}, recomputed {self.recomputed!r}"


def replay(review: Review, reviewers: Sequence[Again | None] = ()) -> tuple[Difference, ...]:
    """Recompute verdicts, e-values, bounds, ruling and decision; no model is asked.

    Floats agree to 12 digits. `reviewers` stand in the gate's order and review again, asking the
    record in place of a model; opinions without one, or with None, are taken as recorded.
    """
    gate, evidence = Gate.from_json(review.gate), review.evidence()
    again = reassess(review)
    ruling = again.ruling
    opinions = review.read_opinions()
    conclusion = conclude(ruling, opinions, evidence)
    if again.waiting:
        conclusion = dataclasses.replace(conclusion, waiting=True)
    pairs: list[tuple[str, Any, Any]] = [
        ("gate_hash", review.gate_hash, gate.hash),
        ("alpha", review.look.alpha, _alpha(review, gate)),
        ("checks", review.checks, [check.as_json() for check in evidence.checks]),
        ("ruling", review.ruling, ruling.decision),
        *_end_pairs(review, conclusion),
    ]
    for position, (opinion, reviewer) in enumerate(zip(opinions, reviewers, strict=False)):
        if reviewer is not None:
            pairs.append(_review_again(review, position, opinion, reviewer, evidence))
    return tuple(d for what, old, new in pairs for d in _differences(what, old, new))


class Reassessed(NamedTuple):
    """What a record's counts lead to by themselves, before any opinion."""

    checks: tuple[GateCheck, ...]
    ruling: Ruling
    waiting: bool


def reassess(review: Review) -> Reassessed:
    """Checks and ruling computed from a record's gate, counts and terms alone; a drift waits."""
    gate, checks = Gate.from_json(review.gate), review.evidence().checks
    ruling = _rule(review, gate, checks)
    waiting = review.method == "drift" and ruling.decision is Decision.STOP
    return Reassessed(checks, ruling, waiting)


def _review_again(
    review: Review, position: int, opinion: Opinion, again: Again, evidence: Evidence
) -> tuple[str, Any, Any]:
    what = f"opinion {position + 1} ({opinion.reviewer})"
    asks = [ask for ask in review.asks if ask["opinion"] == position]
    try:
        found: Any = as_recorded(again(evidence, RecordedAsker(asks)).as_json())
    except Exception as error:  # whatever it raises, the opinion does not come out again
        found = f"{type(error).__name__}: {error}"
    return what, as_recorded(opinion.as_json()), found


def _alpha(review: Review, gate: Gate) -> float:
    if review.method == "drift":
        return drift_alpha(gate, int(review.terms["accepted"]))
    return gate.alpha(review.max_iterations)


def _rule(review: Review, gate: Gate, checks: tuple[GateCheck, ...]) -> Ruling:
    """What the checks lead to: in the pilot more rows or other parameters, later PROCEED or STOP."""
    if review.method == "drift":
        return rule_on_drift(gate, checks, review.terms["pilot"])
    if review.method == "plan":
        return Ruling(Decision.PROCEED, describe_plan(review.terms))
    if review.phase != "pilot":
        overridden = review.terms.get("overridden", ())
        return settle([check for check in checks if check.metric not in overridden])
    look = review.look
    return decide(
        checks, review.iteration, review.max_iterations, look.rows, look.cap, look.planned
    )


def _end_pairs(review: Review, conclusion: Conclusion) -> list[tuple[str, Any, Any]]:
    """What happened: by the reviewers, or where a person signed by what was signed."""
    end: Any = conclusion
    if review.signature is not None:
        end = apply_signature(review, review.signature)
    names = ("decision", "reason", "extend_rows", "changes", "patch_reason", "waiting")
    return [(name, getattr(review, name), getattr(end, name)) for name in names]


def _differences(what: str, old: Any, new: Any) -> list[Difference]:
    """Every leaf at which two values differ, named by its path."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [d for k in keys for d in _differences(f"{what}.{k}", old.get(k), new.get(k))]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        return [
            d
            for i, (a, b) in enumerate(zip(old, new, strict=True))
            for d in _differences(f"{what}[{i}]", a, b)
        ]
    return [] if _agree(old, new) else [Difference(what, old, new)]


def _agree(old: Any, new: Any) -> bool:
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    if numbers and not isinstance(old, bool) and not isinstance(new, bool):
        return math.isclose(old, new, rel_tol=_DIGITS, abs_tol=_DIGITS)
    return bool(old == new)
