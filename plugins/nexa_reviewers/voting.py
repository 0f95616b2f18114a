"""From votes to one opinion: a majority of all that were asked, for a veto as for every change."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core import Evidence, Opinion, refuse_changes
from nexa_reviewers.replies import Vote

__all__ = ["count_votes"]

NAME = "llm"

Ballots = Sequence[tuple[Vote | None, str]]


def count_votes(ballots: Ballots, evidence: Evidence) -> Opinion:
    """What most of the votes say.

    After a failure a parameter changes where most votes turn it the same way, to the median of
    their values. After a pass most votes must veto, each citing what is in the evidence. A vote
    whose patch leaves the search space proposes nothing at all, and the opinion tells of it.
    """
    needed = len(ballots) // 2 + 1
    votes = [vote for vote, _ in ballots if vote is not None]
    told = [_describe(number, *ballot, evidence) for number, ballot in enumerate(ballots, 1)]
    failed = bool(evidence.failing)
    winners = votes if failed else [v for v in votes if v.veto and v.cited(evidence)]
    vetoes = not failed and len(winners) >= needed
    patches = [vote.patch for vote in winners if _refuse(vote, evidence) is None]
    changes = _merge(patches, evidence, needed) if failed or vetoes else {}
    if failed:
        winners = [v for v in winners if _agrees(v.patch, changes)]
    speakers = winners if vetoes or changes else votes
    reason = _tell(speakers, len(ballots), failed, vetoes, bool(changes), told)
    cites = dict.fromkeys(cite for vote in speakers for cite in vote.cited(evidence))
    raw = {"votes": told, "needed": needed, "confidence": _mean(speakers)}
    return Opinion(NAME, reason, changes, veto=vetoes, cites=tuple(cites), raw=raw)


def _describe(number: int, vote: Vote | None, problem: str, evidence: Evidence) -> dict[str, Any]:
    """A vote for the record; `counts` says why one does not count as it was meant."""
    if vote is None:
        return {"vote": number, "counts": f"abstains: {problem}"}
    refused = _refuse(vote, evidence)
    counts = "yes"
    if refused:
        counts = f"its patch is refused: {refused}"
    elif vote.veto and not evidence.failing and not vote.cited(evidence):
        counts = "abstains: its veto cites nothing that is in the evidence"
    return {
        "vote": number,
        "counts": counts,
        "reason": vote.reason,
        "veto": vote.veto,
        "changes": vote.patch,
        "cites": list(vote.cites),
        "confidence": vote.confidence,
    }


def _refuse(vote: Vote, evidence: Evidence) -> str | None:
    return refuse_changes(vote.patch, evidence.parameters, evidence.search_space)


def _merge(patches: Sequence[Mapping[str, Any]], evidence: Evidence, needed: int) -> dict[str, Any]:
    """For each parameter the value of the majority that turns it the same way."""
    merged: dict[str, Any] = {}
    for path in dict.fromkeys(path for patch in patches for path in patch):
        sides: dict[Any, list[Any]] = {}
        for patch in patches:
            if path in patch and patch[path] != evidence.parameters.get(path):
                side = _side(evidence.parameters.get(path), patch[path])
                sides.setdefault(side, []).append(patch[path])
        largest = max(sides.values(), key=len, default=[])
        if len(largest) >= needed:
            merged[path] = statistics.median_low(largest)
    return merged


def _side(old: Any, new: Any) -> Any:
    """Up or down for a number, and for all else the value itself."""
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (old, new))
    return new > old if numbers else repr(new)


def _agrees(patch: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    return bool(changes) and not changes.keys().isdisjoint(patch)


def _tell(
    speakers: Sequence[Vote],
    asked: int,
    failed: bool,
    vetoes: bool,
    changes: bool,
    told: Sequence[Mapping[str, Any]],
) -> str:
    lost = [f"Vote {one['vote']} {one['counts']}." for one in told if one["counts"] != "yes"]
    if vetoes or changes:
        best = max(speakers, key=lambda vote: vote.confidence)
        head = f"{len(speakers)} of {asked} votes: {best.reason}"
    elif failed:
        head = f"No change has a majority of {asked} votes."
    else:
        head = f"No majority of {asked} votes vetoes."
    return " ".join([head, *lost])


def _mean(votes: Sequence[Vote]) -> float | None:
    return statistics.fmean(vote.confidence for vote in votes) if votes else None
