"""Where the time and the money of a run went: phases by events, calls and cost by manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from nexa_core.errors import NexaError
from nexa_core.report.figures import read_time, show_seconds
from nexa_core.report.folder import Facts
from nexa_core.report.plots import draw_part
from nexa_core.store.money import read_spent

__all__ = ["Cost", "Phase", "Times", "count_cost", "measure_times"]


@dataclass(frozen=True)
class Phase:
    """A phase with its seconds over every session; `ended` is False where it was cut short."""

    name: str
    seconds: float
    ended: bool
    bar: Markup | None = None


@dataclass(frozen=True)
class Times:
    """Working time in seconds: whole, by phase, and in how many sessions."""

    total: float
    phases: tuple[Phase, ...]
    sessions: int
    started_at: str | None
    ended_at: str | None


@dataclass(frozen=True)
class Cost:
    """Money of the whole run in nano-dollars, and by who was paid."""

    total: int
    by_role: Mapping[str, int]


def measure_times(events: Iterable[Mapping[str, Any]]) -> Times:
    """Fold events into times; the pauses between sessions are nobody's time."""
    clock = _Clock()
    for event in events:
        at = read_time(event.get("at"))
        if at is not None:
            clock.take(event, at)
    clock.close()
    longest = max(clock.seconds.values(), default=0.0)
    phases = tuple(
        Phase(name, seconds, name in clock.ended, _draw(name, seconds, longest))
        for name, seconds in clock.seconds.items()
    )
    first, last = clock.first, clock.last
    return Times(
        clock.total,
        phases,
        clock.sessions,
        first.isoformat() if first else None,
        last.isoformat() if last else None,
    )


class _Clock:
    """Adds up sessions and phases from the times of events."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.ended: set[str] = set()
        self.total, self.sessions = 0.0, 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._since: datetime | None = None
        self._phase: tuple[str, datetime] | None = None

    def take(self, event: Mapping[str, Any], at: datetime) -> None:
        """Count an event."""
        match event["event"]:
            case "RunStarted" | "RunResumed":
                self.close()
                self._since, self.sessions = at, self.sessions + 1
            case "PhaseStarted":
                self._close_phase(at)
                self._phase = (str(event.get("phase")), at)
                self.ended.discard(str(event.get("phase")))
            case "PhaseFinished" if self._phase is not None:
                self.ended.add(self._phase[0])
                self._close_phase(at)
        self.first, self.last = self.first or at, at

    def close(self) -> None:
        """End the session, and a phase that nothing ended, at the last event."""
        if self.last is not None:
            self._close_phase(self.last)
            if self._since is not None:
                self.total += max((self.last - self._since).total_seconds(), 0.0)
        self._since = None

    def _close_phase(self, at: datetime) -> None:
        if self._phase is not None:
            name, since = self._phase
            passed = max((at - since).total_seconds(), 0.0)
            self.seconds[name] = self.seconds.get(name, 0.0) + passed
        self._phase = None


def _draw(name: str, seconds: float, longest: float) -> Markup:
    return draw_part(f"{name}: {show_seconds(seconds)}", 0, seconds, longest, "time")


def count_cost(facts: Facts) -> Cost:
    """What every call of the run cost, reviewers and evaluation with it."""
    try:
        by_role = dict(+read_spent(facts.run, salvage=True).settled)
    except NexaError:  # a damaged part is said elsewhere; what is readable is counted
        by_role = dict(facts.all_totals.cost_nano)
    return Cost(sum(by_role.values()), by_role)
