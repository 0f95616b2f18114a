"""The frozen values that say what happened: a line in `events.jsonl`, a hook's argument, a screen's update.

Every event is a past participle. Fields may be added; none is ever renamed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = [
    "CallsPlanned",
    "CallsProgressed",
    "Event",
    "GateDecided",
    "IterationStarted",
    "ParametersChanged",
    "PhaseFinished",
    "PhaseStarted",
    "RowsSampled",
    "RunFinished",
    "RunResumed",
    "RunStarted",
    "SettingChanged",
    "ShardCommitted",
    "ShardProgressed",
    "StopRequested",
    "TrainingProgressed",
    "WarningRaised",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    def as_json(self) -> dict[str, Any]:
        """The event as one JSON object; the log adds the time and a running number."""
        return {
            "event": type(self).__name__,
            **{each.name: getattr(self, each.name) for each in fields(self)},
        }


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    run: str
    pipeline: str
    pipeline_hash: str
    seed: int


@dataclass(frozen=True, slots=True)
class RunResumed(Event):
    run: str
    status: str
    """The status the run had when it was taken up again."""


@dataclass(frozen=True, slots=True)
class SettingChanged(Event):
    """Budget, concurrency, executor or `fail_over` changed after the start."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class PhaseStarted(Event):
    """A phase of the run began: pilot, scale, package, train or evaluate."""

    phase: str
    rows_planned: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseFinished(Event):
    phase: str
    seconds: float
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IterationStarted(Event):
    iteration: int
    parameters: Mapping[str, Any]
    rows_planned: int


@dataclass(frozen=True, slots=True)
class ShardProgressed(Event):
    """Rows of a running shard passed a step; emitted at most a few times a second."""

    unit: str
    step: str
    rows_done: int
    rows: int


@dataclass(frozen=True, slots=True)
class ShardCommitted(Event):
    unit: str
    rows: Mapping[str, int]
    """Number of rows by state."""
    calls: Mapping[str, int]
    """Number of calls asked, replayed and reused."""
    cost_nano: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CallsPlanned(Event):
    """What a run will ask, said before it asks: replies of earlier runs are taken for nothing."""

    roles: Mapping[str, Mapping[str, int]]
    """By role: calls `reused` and calls `to_ask`."""
    rows: int
    """Source rows that the plan is made for."""
    exact: bool
    """False where rows were extrapolated or a gate may want more."""
    usd: Mapping[str, float] = field(default_factory=dict)
    """What the calls to be asked may cost, by role, where the earlier runs say what one costs."""


@dataclass(frozen=True, slots=True)
class CallsProgressed(Event):
    """How the calls of remote models and the money stand; emitted at most twice a second."""

    under_way: int
    limit: int
    """How many may be under way at once, over all endpoints."""
    answered: int
    """Since this process began, as are the failures."""
    failures: Mapping[str, int]
    """Tries that did not succeed, by class."""
    settled_nano: int
    """Of the whole run, as are the next two."""
    reserved_nano: int
    at_risk_nano: int
    cap_nano: int | None = None


@dataclass(frozen=True, slots=True)
class RowsSampled(Event):
    """A few rows as they are, so that a screen can show what the run is making; two a second at most.

    Long text is cut. A check that depends on other rows may still reject what is shown as accepted.
    """

    unit: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GateDecided(Event):
    iteration: int
    decision: str
    checks: Sequence[Mapping[str, Any]]
    review: str
    """Hash of the review record: the head of the chain."""
    reason: str = ""
    phase: str = "pilot"
    """The phase that was decided on; those after the pilot have iteration 0."""
    waiting: bool = False
    """Only a person can go on from here."""
    signer: str = ""
    """Who signed this decision, where a person made it."""


@dataclass(frozen=True, slots=True)
class ParametersChanged(Event):
    iteration: int
    changes: Mapping[str, Sequence[Any]]
    """Parameter path to [old, new]."""
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingProgressed(Event):
    step: int
    steps: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WarningRaised(Event):
    message: str


@dataclass(frozen=True, slots=True)
class StopRequested(Event):
    """Somebody asked the run to stop; what is under way is brought to a safe end first."""

    signal: int


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    status: str
    exit_code: int
    reason: str = ""
