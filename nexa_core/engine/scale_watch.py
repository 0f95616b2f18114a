"""Watches a scale run: whether its rows still are what the pilot showed, and whether its gate can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexa_core.engine.context import Context
from nexa_core.engine.verdicts import decide_phase
from nexa_core.gates import Gate, Look, assess_drift, assess_gate, drift_alpha
from nexa_core.records import Decision, Verdict
from nexa_core.reviews import Review, find_overridden, read_reviews
from nexa_core.store.manifest import ShardEntry, merge_tallies, total_entries

__all__ = ["Halt", "ScaleWatch"]

_Tallies = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Halt:
    """Why scale goes no further; `waiting` where a person may let it go on."""

    reason: str
    waiting: bool = False


class ScaleWatch:
    """Looks at each shard of scale as it is committed, beside the pilot that passed.

    Both tests hold at every look. A drift that a person has signed for is the new measure: later
    rows are held against the rows that were seen when it was signed.
    """

    def __init__(self, context: Context, gate: Gate, pilot: Sequence[ShardEntry]) -> None:
        self._context, self._gate = context, gate
        self._pilot: _Tallies = total_entries(pilot).metrics
        self._piloted = sum(entry.source_rows for entry in pilot)
        self._all, self._since = dict(self._pilot), _Tallies()
        self._seen = self._rows = self._rows_since = 0
        accepted = _find_accepted(context)
        self._overridden = find_overridden(read_reviews(context.reviews))
        self._accepted = len(accepted)
        self._before = accepted[-1].tallies if accepted else self._pilot
        self._skipped = accepted[-1].terms["scale_rows"] if accepted else 0

    def look(self, entries: Sequence[ShardEntry]) -> Halt | None:
        """Take in the shards since the last look; why scale must end or wait, if it must."""
        fresh = entries[self._seen :]
        if not fresh:
            return None
        for entry in fresh:
            self._add(entry)
        self._seen = len(entries)
        return self._fails() or self._drifts()

    def _add(self, entry: ShardEntry) -> None:
        for name, tally in entry.metrics.items():
            self._all[name] = merge_tallies(self._all.get(name), tally)
            if self._rows >= self._skipped:
                self._since[name] = merge_tallies(self._since.get(name), tally)
        if self._rows >= self._skipped:
            self._rows_since += entry.source_rows
        self._rows += entry.source_rows

    def _fails(self) -> Halt | None:
        """What no further row can mend: the end of scale would decide no better."""
        rows = self._piloted + self._rows
        alpha = self._gate.alpha(self._context.plan.pipeline.pilot.max_iterations)
        checks = assess_gate(self._gate, self._all, Look(alpha, rows, rows))
        failed = [
            check
            for check in checks
            if check.hard and check.verdict is Verdict.FAIL and check.metric not in self._overridden
        ]
        return Halt(f"{failed[0].metric} fails over the rows so far") if failed else None

    def _drifts(self) -> Halt | None:
        scale = self._context.plan.pipeline.scale
        if scale is None or scale.drift == "off":
            return None
        alpha = drift_alpha(self._gate, self._accepted)
        checks = assess_drift(self._gate, self._before, self._since, alpha)
        if all(check.verdict is Verdict.PASS for check in checks):
            return None
        review = decide_phase(
            self._context,
            "scale",
            self._gate.renamed("drift"),
            Look(alpha, self._rows_since, self._rows_since),
            {check.metric: self._since[check.metric] for check in checks},
            "drift",
            {
                "pilot": {check.metric: self._before[check.metric] for check in checks},
                "accepted": self._accepted,
                "scale_rows": self._rows,
            },
        )
        if not review.waiting:
            return Halt(review.reason)
        return Halt(_say_how(review, self._context.run.id), waiting=True)


def _find_accepted(context: Context) -> list[Review]:
    """The drifts that a person has signed for, oldest first."""
    return [
        review
        for review in read_reviews(context.reviews, "scale")
        if review.method == "drift" and review.decision == Decision.PROCEED
    ]


def _say_how(review: Review, run: str) -> str:
    return (
        f"{review.reason} Scale is paused before more is spent: look at its rows, then "
        f'`nexa gate sign {run} --proceed --reason "…"` takes them as they are and '
        f"`nexa resume {run}` goes on; --stop ends the run."
    )
