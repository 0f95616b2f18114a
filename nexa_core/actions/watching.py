"""A run as it looks from outside: folded from its events, for a screen that lives or one that looks back.

Every number comes from events; the run's own record says only what was planned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nexa_core.store.events import read_events
from nexa_core.store.layout import Run

__all__ = ["Outline", "Progress", "follow", "name_texts", "read_outline"]

PHASES = ("pilot", "scale", "package", "train", "evaluate")
SAMPLES = 40
"""Rows that are remembered of those a run has shown."""
_WINDOW_SECONDS = 15.0
"""The span over which the rate is measured."""


@dataclass(frozen=True)
class Outline:
    """What a run is going to do, as its run.json says."""

    pipeline: str = ""
    seed: int = 0
    phases: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """The columns that the steps write, in order: what a person wants to see first of a row."""
    gate: str | None = None
    max_iterations: int | None = None
    accepted_goal: int | None = None
    rows_goal: int | None = None
    budget_usd: float | None = None


@dataclass
class Phase:
    """A phase under way or over; `seconds` is None until it is over."""

    name: str
    started_at: float
    seconds: float | None = None

    def elapsed(self, now: float) -> float:
        """Seconds since it began, or that it took."""
        return self.seconds if self.seconds is not None else max(0.0, now - self.started_at)


@dataclass
class ShardInWork:
    """A shard that is not committed: rows that have passed each step."""

    rows: int
    done: dict[str, int] = field(default_factory=dict)

    def rows_done(self, steps: int) -> float:
        """Rows' worth of work done, each step counting the same."""
        passed = sum(min(done, self.rows) for done in self.done.values())
        return passed / max(steps, len(self.done), 1)


@dataclass
class Progress:
    """The state of a run after the events applied so far. Times are seconds since the epoch."""

    outline: Outline = field(default_factory=Outline)
    run: str = ""
    status: str = "starting"
    reason: str = ""
    phase: Phase | None = None
    phases: dict[str, Phase] = field(default_factory=dict)
    iteration: int | None = None
    rows_planned: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    cost_nano: int = 0
    live: Mapping[str, Any] = field(default_factory=dict)
    """The last CallsProgressed: what is under way, what failed, how the money stands."""
    budget_usd: float | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    """The last look of the gate."""
    decisions: list[tuple[int, str]] = field(default_factory=list)
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """How the present iteration's parameters differ from the one before: path to [old, new]."""
    changed_for: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    samples: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Rows as they were made, the newest last; each with the `unit` it is of."""
    stopping: bool = False
    started_at: float | None = None
    updated_at: float = 0.0
    work: dict[str, ShardInWork] = field(default_factory=dict)
    _committed: dict[str, Mapping[str, int]] = field(default_factory=dict)
    _sums: dict[str, dict[str, int]] = field(default_factory=dict)
    _track: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=256))

    def apply(self, record: Mapping[str, Any], now: float | None = None) -> None:
        """Take in one event as JSON; `now` is its time where the record has none."""
        self.updated_at = now if now is not None else _read_time(record.get("at"))
        handle = _HANDLERS.get(record["event"])
        if handle is not None:
            handle(self, record)

    def count_rows(self, folder: str, rows: Mapping[str, int]) -> None:
        """Take the rows of an iteration or of scale as somebody else has counted them."""
        self._sums[folder] = dict(rows)

    @property
    def cost_usd(self) -> float:
        return self.cost_nano / 1e9

    @property
    def rows(self) -> dict[str, int]:
        """Rows by state: of the present iteration, and in scale of the passing pilot and scale."""
        pilot = self._sums.get(f"iterations/{self.iteration or 0:02d}", {})
        return _add(pilot, self._sums.get("scale", {}))

    @property
    def accepted(self) -> int:
        return self.rows.get("accepted", 0)

    @property
    def rows_done(self) -> float:
        """Rows' worth of work in the present count: committed, and in work by their share."""
        steps = len(self.outline.steps)
        return sum(self.rows.values()) + sum(shard.rows_done(steps) for shard in self.work.values())

    @property
    def goal(self) -> int | None:
        """Rows that the present phase works towards: accepted ones in scale where it counts those."""
        if self.phase is None or self.phase.name not in ("pilot", "scale"):
            return None
        if self.phase.name == "scale":
            return self.outline.accepted_goal or self.outline.rows_goal
        if self.rows_planned is None or self.rows_planned < 0:
            return None
        in_work = sum(shard.rows for shard in self.work.values())
        return max(self.rows_planned, sum(self.rows.values()) + in_work)

    @property
    def counts_accepted(self) -> bool:
        """Whether the goal counts accepted rows only."""
        in_scale = self.phase is not None and self.phase.name == "scale"
        return in_scale and self.outline.accepted_goal is not None

    @property
    def reached(self) -> float:
        """How far the goal is reached, in its own unit; rows in work count by their likely share."""
        if not self.counts_accepted:
            return self.rows_done
        total = sum(self.rows.values())
        share = self.accepted / total if total else 0.0
        return self.accepted + (self.rows_done - total) * share

    @property
    def rate(self) -> float | None:
        """Rows per second over the last seconds, None before there is something to measure."""
        if len(self._track) < 2:
            return None
        (first_at, first), (last_at, last) = self._track[0], self._track[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None

    @property
    def seconds_left(self) -> float | None:
        """The time to the goal at the present rate, None where that cannot be told."""
        goal, rate = self.goal, self.rate
        if goal is None or not rate or rate <= 0:
            return None
        if self.counts_accepted:
            total = sum(self.rows.values())
            rate *= self.accepted / total if total else 0.0
        return max(0.0, goal - self.reached) / rate if rate > 0 else None

    def _on_run_started(self, record: Mapping[str, Any]) -> None:
        self.run, self.status = record["run"], "running"
        self.started_at = self.started_at or self.updated_at

    def _on_run_resumed(self, record: Mapping[str, Any]) -> None:
        self.run, self.status, self.reason = record["run"], "running", ""
        self.work.clear()
        self._track.clear()

    def _on_setting_changed(self, record: Mapping[str, Any]) -> None:
        if record["path"] == "budget.usd":
            self.budget_usd = record["new"]

    def _on_phase_started(self, record: Mapping[str, Any]) -> None:
        name = record["phase"]
        self.phase = self.phases[name] = Phase(name, self.updated_at)
        self._track.clear()
        self.training = {}

    def _on_phase_finished(self, record: Mapping[str, Any]) -> None:
        if phase := self.phases.get(record["phase"]):
            phase.seconds = record["seconds"]

    def _on_iteration_started(self, record: Mapping[str, Any]) -> None:
        self.iteration, self.rows_planned = record["iteration"], record["rows_planned"]
        self.parameters = record["parameters"]
        self.work.clear()
        self._track.clear()

    def _on_shard_progressed(self, record: Mapping[str, Any]) -> None:
        shard = self.work.setdefault(record["unit"], ShardInWork(record["rows"]))
        shard.done[record["step"]] = record["rows_done"]
        self._mark()

    def _on_shard_committed(self, record: Mapping[str, Any]) -> None:
        unit = record["unit"]
        self.work.pop(unit, None)
        # Kept by shard: one that is done again after its file went bad counts once.
        undone = {state: -n for state, n in self._committed.get(unit, {}).items()}
        folder = unit.rpartition("/")[0]
        self._sums[folder] = _add(_add(self._sums.get(folder, {}), undone), record["rows"])
        self._committed[unit] = record["rows"]
        self.calls = _add(self.calls, record["calls"])
        if not self.live:
            self.cost_nano += record["cost_nano"]
        self._mark()

    def _on_calls_progressed(self, record: Mapping[str, Any]) -> None:
        self.live, self.cost_nano = record, record["settled_nano"]

    def _on_gate_decided(self, record: Mapping[str, Any]) -> None:
        if record.get("phase", "pilot") == "pilot":
            self.decision = record
            self.decisions.append((record["iteration"], record["decision"]))

    def _on_parameters_changed(self, record: Mapping[str, Any]) -> None:
        self.changes, self.changed_for = record["changes"], record["reason"]

    def _on_training_progressed(self, record: Mapping[str, Any]) -> None:
        self.training = record

    def _on_warning_raised(self, record: Mapping[str, Any]) -> None:
        self.warnings.append(record["message"])

    def _on_rows_sampled(self, record: Mapping[str, Any]) -> None:
        self.samples.extend({**row, "unit": record["unit"]} for row in record["rows"])

    def _on_stop_requested(self, _record: Mapping[str, Any]) -> None:
        self.stopping = True

    def _on_run_finished(self, record: Mapping[str, Any]) -> None:
        self.status, self.reason = record["status"], record["reason"]

    def _mark(self) -> None:
        """Note how far the work is, for the rate."""
        self._track.append((self.updated_at, self.rows_done))
        while self._track[-1][0] - self._track[0][0] > _WINDOW_SECONDS:
            self._track.popleft()


_HANDLERS: dict[str, Callable[[Progress, Mapping[str, Any]], None]] = {
    "RunStarted": Progress._on_run_started,
    "RunResumed": Progress._on_run_resumed,
    "SettingChanged": Progress._on_setting_changed,
    "PhaseStarted": Progress._on_phase_started,
    "PhaseFinished": Progress._on_phase_finished,
    "IterationStarted": Progress._on_iteration_started,
    "ShardProgressed": Progress._on_shard_progressed,
    "ShardCommitted": Progress._on_shard_committed,
    "CallsProgressed": Progress._on_calls_progressed,
    "GateDecided": Progress._on_gate_decided,
    "ParametersChanged": Progress._on_parameters_changed,
    "TrainingProgressed": Progress._on_training_progressed,
    "WarningRaised": Progress._on_warning_raised,
    "RowsSampled": Progress._on_rows_sampled,
    "StopRequested": Progress._on_stop_requested,
    "RunFinished": Progress._on_run_finished,
}


def read_outline(run_folder: Path) -> Outline:
    """What run.json says the run is going to do; an empty outline where there is no record yet."""
    if not (run_folder / "run.json").is_file():
        return Outline()
    record = Run(run_folder).record
    pipeline = record["pipeline"]
    scale, budget = pipeline.get("scale") or {}, pipeline.get("budget") or {}
    gate = record.get("gate") or {}
    rows_goal = scale.get("rows")
    has_pilot = bool(gate) or not scale
    present = {"pilot": has_pilot, **{name: pipeline.get(name) is not None for name in PHASES[1:]}}
    return Outline(
        pipeline=record["name"],
        seed=record.get("seed", 0),
        phases=tuple(name for name in record.get("phases", PHASES) if present.get(name)),
        steps=tuple(str(number) for number in range(len(pipeline.get("steps", [])))),
        texts=name_texts(pipeline),
        gate=gate.get("gate") or gate.get("name"),
        max_iterations=pipeline.get("pilot", {}).get("max_iterations"),
        accepted_goal=scale.get("accepted"),
        rows_goal=rows_goal if isinstance(rows_goal, int) else None,
        budget_usd=budget.get("usd"),
    )


def name_texts(pipeline: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that the steps of a resolved pipeline write, in order."""
    bodies = [step["generate"] for step in pipeline.get("steps", []) if "generate" in step]
    return tuple(dict.fromkeys(str(body.get("into", "response")) for body in bodies))


def follow(run_folder: Path) -> Progress:
    """The state of a run after everything its log holds."""
    outline = read_outline(run_folder)
    progress = Progress(outline, budget_usd=outline.budget_usd)
    for record in read_events(run_folder).records:
        progress.apply(record)
    return progress


def _read_time(at: object) -> float:
    """Seconds since the epoch of an ISO 8601 time; the present where there is none."""
    return datetime.fromisoformat(at).timestamp() if isinstance(at, str) else time.time()


def _add(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {key: counts.get(key, 0) + more.get(key, 0) for key in {**counts, **more}}
