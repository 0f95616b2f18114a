"""A run as timestamped lines on stderr: for logs, pipes and terminals that want no colours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nexa_core.actions.watching import Progress
from nexa_core.figures import show_count, show_number, show_span, show_usd
from nexa_core.phrases import describe_check

__all__ = ["Lines"]

PROGRESS_SECONDS = 5.0
"""The least time between two lines about rows or training steps."""


class Lines:
    """Writes a line for each event that a reader of a log wants to see."""

    def __init__(
        self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._write = write or _tell
        self._clock = clock
        self._progressed_at = float("-inf")
        self._is_held = False
        """Rows were committed since the last line about rows."""

    def start(self) -> None:
        """Nothing is shown before the first event."""

    def stop(self) -> None:
        """Nothing is left to undo."""

    def update(self, progress: Progress, record: Mapping[str, Any]) -> None:
        """Say what an event means, if it means something to a reader."""
        describe = _WORDS.get(record["event"])
        if describe is None:
            return
        event = record["event"]
        if event in _BEGINNINGS:
            self._progressed_at = self._clock()
        if event in _FREQUENT and not self._is_due():
            self._is_held |= event == "ShardCommitted"
            return
        texts = describe(progress, record)
        if event in _ENDINGS and self._is_held:
            texts = [*_rows(progress, record), *texts]
        if event in _ENDINGS or event == "ShardCommitted":
            self._is_held = False
        for text in texts:
            at = datetime.fromtimestamp(self._clock(), UTC).astimezone().strftime("%H:%M:%S")
            self._write(f"{at}  {' '.join(text.split())}")

    def _is_due(self) -> bool:
        now = self._clock()
        if now - self._progressed_at < PROGRESS_SECONDS:
            return False
        self._progressed_at = now
        return True


def _tell(text: str) -> None:
    from nexa_core.cli import diagnostics

    diagnostics.tell(text)


def _started(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    return [f"run {record['run']} started: pipeline {record['pipeline']}, seed {record['seed']}"]


def _resumed(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    return [f"run {record['run']} taken up again; it was {record['status']}"]


def _setting(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    return [f"setting {record['path']} {record['old']} → {record['new']}"]


def _phase(progress: Progress, record: Mapping[str, Any]) -> list[str]:
    goal = progress.goal if progress.counts_accepted else None
    wanted = f": {show_count(goal)} accepted rows wanted" if goal is not None else ""
    return [f"{record['phase']} begins{wanted}"]


def _phase_over(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    return [f"{record['phase']} took {show_span(record['seconds'])}"]


def _iteration(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    planned = record["rows_planned"]
    rows = "every row" if planned < 0 else f"{show_count(planned)} rows planned"
    values = [f"{path} {show_number(value)}" for path, value in record["parameters"].items()]
    return [f"iteration {record['iteration']}: {rows}{''.join(f' · {value}' for value in values)}"]


def _rows(progress: Progress, _record: Mapping[str, Any]) -> list[str]:
    where = progress.phase.name if progress.phase else "rows"
    if where == "pilot" and progress.iteration is not None:
        where = f"iteration {progress.iteration}"
    goal = f"/{show_count(progress.goal)}" if progress.goal else ""
    unit = "accepted" if progress.counts_accepted else "rows"
    parts = [f"{show_count(progress.reached)}{goal} {unit}"]
    parts += [
        f"{show_count(n)} {state}" for state, n in progress.rows.items() if n and state != unit
    ]
    if progress.rate:
        rate = progress.rate
        parts.append(f"{rate:,.0f} rows/s" if rate >= 100 else f"{rate:.3g} rows/s")
    if progress.cost_nano:
        parts.append(show_usd(progress.cost_usd))
    if progress.seconds_left:
        parts.append(f"about {show_span(progress.seconds_left)} left")
    return [f"{where}: {' · '.join(parts)}"]


def _gate(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    phase = record.get("phase", "pilot")
    after = f"iteration {record['iteration']}" if phase == "pilot" else phase
    lines = [f"gate {record['decision']} after {after}: {record['reason']}"]
    lines += [f"gate   {check['verdict']} {describe_check(check)}" for check in record["checks"]]
    return lines


def _changed(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    changes = [
        f"changed {path} {show_number(old)} → {show_number(new)}"
        for path, (old, new) in record["changes"].items()
    ]
    return [*changes, f"because {record['reason']}"] if record["reason"] else changes


def _training(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    metrics = [f"{name} {show_number(value)}" for name, value in record["metrics"].items()]
    return [f"train: step {record['step']}/{record['steps']}{''.join(f' · {m}' for m in metrics)}"]


def _warning(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    return [f"warning: {record['message']}"]


def _planned(_progress: Progress, record: Mapping[str, Any]) -> list[str]:
    sign = "" if record["exact"] else "≈ "
    return [f"plan: {sign}{' · '.join(_role_plan(record, role) for role in record['roles'])}"]


def _role_plan(record: Mapping[str, Any], role: str) -> str:
    counts = record["roles"][role]
    parts = [f"{show_count(counts['reused'])} reused"] if counts["reused"] else []
    if counts["to_ask"] or not parts:
        usd = record["usd"].get(role)
        price = f" ≈ {show_usd(usd)}" if usd else ""
        parts.append(f"{show_count(counts['to_ask'])} to ask{price}")
    return f"{role} {', '.join(parts)}"


def _stopping(_progress: Progress, _record: Mapping[str, Any]) -> list[str]:
    return ["stopping: what is under way is journaled first; a second signal ends it at once"]


def _finished(progress: Progress, record: Mapping[str, Any]) -> list[str]:
    reason = f": {record['reason']}" if record["reason"] else ""
    return [f"run {progress.run} {record['status']}{reason}"]


_FREQUENT = {"ShardProgressed", "ShardCommitted", "TrainingProgressed"}
_BEGINNINGS = {"PhaseStarted", "IterationStarted"}
"""What goes before the first line about rows: half a second's work says nothing about a phase."""
_ENDINGS = {"GateDecided", "PhaseFinished", "RunFinished"}
"""What comes after the last rows of something: they are told first, all of them."""
_WORDS: dict[str, Callable[[Progress, Mapping[str, Any]], list[str]]] = {
    "RunStarted": _started,
    "RunResumed": _resumed,
    "SettingChanged": _setting,
    "CallsPlanned": _planned,
    "PhaseStarted": _phase,
    "PhaseFinished": _phase_over,
    "IterationStarted": _iteration,
    "ShardProgressed": _rows,
    "ShardCommitted": _rows,
    "GateDecided": _gate,
    "ParametersChanged": _changed,
    "TrainingProgressed": _training,
    "WarningRaised": _warning,
    "StopRequested": _stopping,
    "RunFinished": _finished,
}
