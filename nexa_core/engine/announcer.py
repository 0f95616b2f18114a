"""Tells everyone what happens in a run: the event log and status first, then plugins and screens."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nexa_core.events import Event, RunFinished, ShardProgressed
from nexa_core.store.events import EventLog
from nexa_core.store.status import StatusFile, fold_status, read_status

Listener = Callable[[Event], None]

_log = logging.getLogger("nexa")
PROGRESS_SECONDS = 0.25


class Announcer:
    """Hands each event on; a listener that fails is noted and never stops the run."""

    def __init__(self, run_folder: Path, listeners: Sequence[Listener] = ()) -> None:
        self._log = EventLog.open(run_folder)
        self._file = StatusFile(run_folder)
        self._run = run_folder.name
        self._status = read_status(run_folder)
        self._listeners = listeners
        self._progressed_at: dict[str, float] = {}

    def announce(self, event: Event) -> None:
        """Log the event, keep the status in step, then tell every listener."""
        if isinstance(event, ShardProgressed) and not self._is_due(event):
            return
        record = self._log.append(event)
        self._status = fold_status(self._run, [record], {**self._status, "pid": os.getpid()})
        self._file.put(self._status)
        if isinstance(event, RunFinished):
            self._file.flush()
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a listener failed on %s", type(event).__name__)

    def close(self) -> None:
        """Write what is pending and release the files."""
        self._file.flush()
        self._log.close()

    def _is_due(self, event: ShardProgressed) -> bool:
        key, now = f"{event.unit}/{event.step}", time.monotonic()
        due = now - self._progressed_at.get(key, 0.0) >= PROGRESS_SECONDS
        if due or event.rows_done >= event.rows:
            self._progressed_at[key] = now
            return True
        return False
