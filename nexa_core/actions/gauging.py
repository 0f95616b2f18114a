"""A run's gate as its committed rows stand now: every rule measured, and how it came to where it is.

What is shown here decides nothing: the run looks at its gate when an iteration's rows are there. The
process behind the bounds stays valid however often one looks (`nexa_core.stats.sequential`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa_core.gates import Gate, Look, assess_gate, describe
from nexa_core.gates.assessment import assess
from nexa_core.records import GateCheck, Verdict
from nexa_core.reviews.markdown import explain_check
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import ShardEntry, merge_tallies, read_manifest

__all__ = ["Gauge", "Gauges", "Point", "explain_gauge", "gauge_of", "read_gauges"]

POINTS = 48
"""Moments at which a rule is drawn; a run of thousands of shards is thinned to as many."""


@dataclass(frozen=True, slots=True)
class Point:
    """A rule after so many rows; shares of rows, also for a median."""

    rows: int
    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Gauge:
    """A rule as it stands now, and its way there, oldest first."""

    check: GateCheck
    track: tuple[Point, ...]

    @property
    def limit(self) -> float:
        """The share of rows that the rule is held to: the threshold, or one half for a median."""
        return 0.5 if self.check.aggregate == "median" else self.check.threshold


@dataclass(frozen=True, slots=True)
class Gauges:
    """Every rule of a gate over one iteration, or over the dataset in scale."""

    unit: str = ""
    rows: int = 0
    cap: int = 0
    gauges: tuple[Gauge, ...] = ()


def read_gauges(run_folder: Path, iteration: int | None, *, in_scale: bool = False) -> Gauges:
    """The gate over what an iteration has committed; in scale over the pilot's and scale's rows.

    Empty for a run without a gate, and before the first shard.
    """
    run = Run(run_folder)
    if not run.record.get("gate") or iteration is None:
        return Gauges()
    gate = Gate.from_json(run.record["gate"])
    folders = [run.iteration(iteration), *([run.scale] if in_scale else [])]
    entries = [entry for folder in folders for entry in read_manifest(folder.path)]
    if not entries:
        return Gauges(_name(folders))
    pilot = run.record["pipeline"].get("pilot", {})
    look = Look(gate.alpha(pilot.get("max_iterations", 1)), 0, _cap(gate, pilot, in_scale))
    moments = _accumulate(entries)
    last = moments[-1]
    now = replace(look, rows=last.rows, cap=max(look.cap, last.rows))
    checks = assess_gate(gate, last.tallies, now)
    rules = gate.rules
    tracks = [_track(rule, moments, look) for rule in rules]
    tracks += [()] * (len(checks) - len(tracks))  # slices come after the rules, and have none
    gauges = tuple(Gauge(check, track) for check, track in zip(checks, tracks, strict=True))
    return Gauges(_name(folders), last.rows, now.cap, gauges)


def gauge_of(check: Mapping[str, Any]) -> Gauge:
    """A check of a record, as it was."""
    return Gauge(GateCheck(**{**check, "verdict": Verdict(check["verdict"])}), ())


def explain_gauge(gauge: Gauge, gate: Mapping[str, Any] | None) -> str:
    """In plain words: what was measured, how sure that is, what would have passed, how many rows more."""
    check = gauge.check
    rules = Gate.from_json(gate).rules if gate else ()
    rule = next((r for r in rules if (r.key, r.hard) == (check.metric, check.hard)), None)
    return explain_check(check, rule) if rule is not None else describe(check)


def _cap(gate: Gate, pilot: Mapping[str, Any], in_scale: bool) -> int:
    planned = pilot.get("rows")
    return 0 if in_scale else max(gate.max_rows, planned if isinstance(planned, int) else 0)


def _name(folders: Sequence[ShardFolder]) -> str:
    return folders[-1].name


@dataclass(frozen=True, slots=True)
class _Moment:
    """The sums over a unit's first shards."""

    rows: int
    tallies: Mapping[str, Mapping[str, Any]]


def _accumulate(entries: Sequence[ShardEntry]) -> list[_Moment]:
    """The sums after each shard, thinned to `POINTS` of even distance; the last is always among them."""
    kept = {round((n + 1) * len(entries) / POINTS) - 1 for n in range(POINTS)}
    moments: list[_Moment] = []
    rows = 0
    tallies: dict[str, Mapping[str, Any]] = {}
    for position, entry in enumerate(entries):
        rows += entry.source_rows
        for name, tally in entry.metrics.items():
            tallies[name] = merge_tallies(tallies.get(name), tally)
        if position in kept or position == len(entries) - 1:
            moments.append(_Moment(rows, dict(tallies)))
    return moments


def _track(rule: Any, moments: Sequence[_Moment], look: Look) -> tuple[Point, ...]:
    """The rule at each moment; a look whose cap is reached needs no look ahead, which costs most."""
    points = []
    for moment in moments:
        at = replace(look, rows=moment.rows, cap=moment.rows)
        check = assess(rule, moment.tallies.get(rule.key, {}), at)
        value = check.k / check.n if check.n and check.aggregate != "mean" else None
        points.append(Point(moment.rows, value, check.lower, check.upper))
    return tuple(points)
