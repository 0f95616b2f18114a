"""What a decision maker reads first: how the run ended, what it made, for how much, how good it is."""

from __future__ import annotations

from dataclasses import dataclass

from nexa_core.report.evaluation import BASE, FEW_SHOT, TUNED, EvaluationView
from nexa_core.report.figures import show_count, show_money, show_p, show_seconds, show_share
from nexa_core.report.folder import Facts
from nexa_core.report.timing import Cost, Times
from nexa_core.reviews import describe_overrides

__all__ = ["Headline", "Tile", "write_headline"]

ENDS = {
    "done": "Done",
    "stopped": "Stopped: the gate said no",
    "short": "Short: fewer accepted rows than wanted",
    "waiting": "Waiting for a person or a machine",
    "budget": "Ended by the budget",
    "failed": "Failed",
    "interrupted": "Interrupted: it can be resumed",
    "running": "Running: this is what stands so far",
}
SIGNS = {"done": "PASS", "stopped": "FAIL", "failed": "FAIL"}


@dataclass(frozen=True)
class Tile:
    """One figure with its name and a line that says more."""

    name: str
    figure: str
    more: str


@dataclass(frozen=True)
class Headline:
    """Status, figures, and what must not be missed; `sign` is the shape of the status."""

    status: str
    sign: str
    reason: str
    told: str
    """How the gate came to its last word, in a sentence."""
    tiles: list[Tile]
    marks: list[str]
    warnings: list[str]


def write_headline(
    facts: Facts, cost: Cost, times: Times, evaluation: EvaluationView | None
) -> Headline:
    """The headline; figures that there are not yet are said to be absent."""
    status = str(facts.status.get("status"))
    finished = facts.finished or {}
    tiles = [
        _tile_rows(facts),
        _tile_money(facts, cost),
        Tile("Time", show_seconds(times.total), _describe_sessions(times)),
        _tile_evaluation(evaluation),
    ]
    return Headline(
        status=ENDS.get(status, status),
        sign=SIGNS.get(status, "INCONCLUSIVE"),
        reason=str(finished.get("reason") or ""),
        told=_describe_decisions(facts),
        tiles=tiles,
        marks=_list_marks(facts),
        warnings=[str(e.get("message")) for e in facts.events if e["event"] == "WarningRaised"],
    )


def _describe_decisions(facts: Facts) -> str:
    if not facts.reviews:
        return ""
    piloted = [review for review in facts.reviews if review.phase == "pilot"]
    looks, iterations = len(piloted), len({review.iteration for review in piloted})
    looked = "once" if looks == 1 else f"{looks} times"
    during = "one iteration" if iterations == 1 else f"{iterations} iterations"
    if not piloted:
        looked, during = "not", "a pilot"
    later = list(dict.fromkeys(r.phase for r in facts.reviews if r.phase != "pilot"))
    more = f", and at {', '.join(later)}" if later else ""
    return f"The gate looked {looked} in {during}{more}; its last word is {facts.reviews[-1].decision}."


def _list_marks(facts: Facts) -> list[str]:
    marks = [str(mark) for mark in (facts.dataset or {}).get("marks") or ()]
    if facts.record.get("rehearsal") and "rehearsal" not in marks:
        marks.append("rehearsal")
    marks += [mark for mark in describe_overrides(facts.reviews) if mark not in marks]
    return marks


def _tile_rows(facts: Facts) -> Tile:
    rows = sum(facts.totals.rows.values()) - facts.retried
    if not rows:
        return Tile("Accepted rows", "0", "No shard is committed yet.")
    share = show_share(facts.accepted / rows)
    counted = "answers" if facts.retried else "rows"
    where = "scale and the passing pilot" if facts.scale else "the last iteration"
    if facts.scale and not facts.iterations:
        where = "scale"
    return Tile(
        "Accepted rows",
        show_count(facts.accepted),
        f"{share} of {show_count(rows)} {counted} of {where}",
    )


def _tile_money(facts: Facts, cost: Cost) -> Tile:
    if not cost.total:
        return Tile("Cost per accepted row", "$0.00", "No call of this run had a price.")
    if not facts.accepted:
        return Tile("Cost", show_money(cost.total), "There is no accepted row to divide it by.")
    each = cost.total / facts.accepted
    more = f"{show_money(cost.total)} for the whole run, failed iterations included"
    return Tile("Cost per accepted row", show_money(each), more)


def _describe_sessions(times: Times) -> str:
    if times.sessions > 1:
        return f"in {times.sessions} sessions, pauses left out"
    longest = max(times.phases, key=lambda phase: phase.seconds, default=None)
    return f"most of it: {longest.name}, {show_seconds(longest.seconds)}" if longest else ""


def _tile_evaluation(evaluation: EvaluationView | None) -> Tile:
    name = "Tuned against base"
    if evaluation is None:
        return Tile(name, "not evaluated", "There is no comparison in this run.")
    compared = evaluation.find(BASE, TUNED)
    if compared is None:
        arms = ", ".join(f"{arm.name} {arm.accuracy}" for arm in evaluation.arms)
        return Tile("Evaluation", "no pair", arms or "no arm was run")
    figure = f"{evaluation.accuracy(BASE)} → {evaluation.accuracy(TUNED)}"
    more = f"{compared.points} points, {compared.interval}, mid-p {show_p(compared.p_midp)}"
    few = evaluation.accuracy(FEW_SHOT)
    return Tile(name, figure, more + (f"; base with examples in the prompt {few}" if few else ""))
