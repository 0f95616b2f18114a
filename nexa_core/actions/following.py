"""A run's log, read as it grows: a little at a time, by a process that has nothing to do with the run's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nexa_core.actions.watching import Progress, read_outline
from nexa_core.store.events import EVENTS, EventBatch, read_events
from nexa_core.store.lock import find_owner
from nexa_core.store.status import RUNNING, read_status

__all__ = ["Follower"]

LINES_AT_ONCE = 2_000
_LONGEST_HEAD = 1_024
_OWNER_SECONDS = 1.0
"""Between two looks at whether the run's process lives."""


class Follower:
    """Keeps a `Progress` in step with a run that another process works on.

    Until a long log is read to its end, `progress` is what `status.json` says, so that there is
    something true to show at once.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._start()

    def _start(self) -> None:
        self._offset = 0
        self._identity = self._identify()
        self._folded = Progress(read_outline(self.run_folder))
        self._folded.budget_usd = self._folded.outline.budget_usd
        self.caught_up = False
        """The log has been read to its end at least once."""
        self.progress = _provisional(self.run_folder, self._folded)
        self._looked_at = float("-inf")
        self._is_alive = False

    def catch_up(self) -> Iterator[int]:
        """Read a long log to its end, a little at each step; `progress` stays provisional until then."""
        while not self.caught_up:
            batch = self.fetch()
            self._fold(batch)
            self.caught_up = len(batch.records) + batch.unreadable < LINES_AT_ONCE
            yield len(batch.records)
        self.progress = self._folded

    def fetch(self) -> EventBatch:
        """What the log has more, not yet taken in; it reads the disk and changes nothing."""
        return read_events(self.run_folder, self._offset, LINES_AT_ONCE)

    def take(self, batch: EventBatch) -> bool:
        """Take in what was fetched; whether there was anything.

        A run that was removed and made again under its name is followed from its start.
        """
        if self._identify() != self._identity:
            self._start()
            return True
        self._fold(batch)
        return bool(batch.records)

    def _fold(self, batch: EventBatch) -> None:
        for record in batch.records:
            self._folded.apply(record)
        self._offset = batch.offset

    @property
    def status(self) -> str:
        """The run's status; a run that says it is running while no process holds it was interrupted."""
        said = self.progress.status
        if said != RUNNING or self._look_for_owner():
            return said
        return "interrupted"

    def _look_for_owner(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= _OWNER_SECONDS:
            self._looked_at, self._is_alive = now, find_owner(self.run_folder) is not None
        return self._is_alive

    def _identify(self) -> bytes:
        """Which log this is: how it begins, with the moment of the run's start; empty without a log."""
        try:
            with (self.run_folder / EVENTS).open("rb") as log:
                return log.readline(_LONGEST_HEAD)
        except OSError:
            return b""


def _provisional(run_folder: Path, blank: Progress) -> Progress:
    """What `status.json` says of a run, as far as it goes."""
    status = read_status(run_folder)
    progress = Progress(blank.outline, run=run_folder.name, status=status["status"])
    progress.budget_usd, progress.iteration = blank.budget_usd, status["iteration"]
    progress.cost_nano, progress.calls = status["cost_nano"], dict(status["calls"])
    progress.started_at = _seconds(status["started_at"])
    progress.updated_at = _seconds(status["updated_at"]) or 0.0
    unit = f"iterations/{status['iteration'] or 0:02d}"
    progress.count_rows(unit, status["rows"])
    if status["phase"]:
        progress.apply({"event": "PhaseStarted", "phase": status["phase"]}, progress.updated_at)
    return progress


def _seconds(at: Any) -> float | None:
    return datetime.fromisoformat(at).timestamp() if isinstance(at, str) else None
