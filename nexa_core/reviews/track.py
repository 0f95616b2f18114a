"""What became of earlier proposals: whether the metrics they were for moved, and which way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nexa_core.gates import refuse_changes
from nexa_core.records import Decision, GateCheck, Verdict
from nexa_core.reviews.record import Review

__all__ = ["find_author", "trace_patches"]

_CLEAR = 1.28
"""Standard errors beyond which a difference of two shares counts as a move: one-sided 10 %."""


def trace_patches(
    reviews: Sequence[Review], iteration: int, checks: Iterable[GateCheck]
) -> list[dict[str, Any]]:
    """For every patch that was made before an iteration, what its failing metrics did afterwards.

    Each entry has `iteration` (which the patch ended), `reviewer`, `metric`, the values `before` and
    `after`, and `moved`: better, worse or unclear. `checks` are those of `iteration` itself.
    """
    ends = {review.iteration: review for review in reviews if review.phase == "pilot"}
    measured = {number: list(end.checks) for number, end in ends.items()}
    measured[iteration] = [check.as_json() for check in checks]
    traced = []
    for number in sorted(measured):
        end = ends.get(number)
        if end is None or number >= iteration or number + 1 not in measured:
            continue
        if end.decision == Decision.ITERATE and end.changes:
            after = {check["metric"]: check for check in measured[number + 1]}
            traced += list(_compare(end, after))
    return traced


def find_author(review: Review) -> str:
    """Who proposed the changes of a record: the person who signed, else the first sound patch's."""
    if review.signature is not None:
        return str(review.signature["signer"])
    for opinion in review.opinions:
        patch = opinion["changes"]
        moved = any(new != review.parameters.get(path) for path, new in patch.items())
        if moved and not refuse_changes(patch, review.parameters, review.search_space):
            return str(opinion["reviewer"])
    return ""


def _compare(end: Review, after: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for check in end.checks:
        later = after.get(check["metric"])
        if not check["hard"] or check["verdict"] == Verdict.PASS or later is None:
            continue
        if check["aggregate"] == "mean" or not check["n"] or not later["n"]:
            continue
        yield {
            "iteration": end.iteration,
            "reviewer": find_author(end),
            "metric": check["metric"],
            "before": check["value"],
            "after": later["value"],
            "moved": _judge_move(check, later),
        }


def _judge_move(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = _failing_share(before), _failing_share(after)
    # Half a row each way, so that a share of nothing has an error too.
    pooled = (old * before["n"] + new * after["n"] + 1) / (before["n"] + after["n"] + 2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / before["n"] + 1 / after["n"]))
    if abs(new - old) <= _CLEAR * error:
        return "unclear"
    return "better" if new < old else "worse"


def _failing_share(check: Mapping[str, Any]) -> float:
    """The share of rows on the wrong side of a rule."""
    share = float(check["k"]) / float(check["n"])
    counts_good = check["aggregate"] == "median" or check["rule"] == "at_least"
    if check["rule"] == "equals" and check["aggregate"] == "rate":
        counts_good = check["threshold"] == 1
    return 1 - share if counts_good else share
