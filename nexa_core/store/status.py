"""Where a run stands: folded from its events, kept in `status.json`, and safe to delete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nexa_core.errors import StoreError
from nexa_core.store.events import read_events
from nexa_core.store.files import disk_errors, encode_line, replace_file
from nexa_core.store.lock import find_owner

__all__ = ["RUNNING", "STATUS", "StatusFile", "fold_status", "read_status"]

STATUS = "status.json"
RUNNING = "running"
_INTERVAL_SECONDS = 0.5


class StatusFile:
    """The writer of `status.json`: at most twice a second, and at once when told to flush."""

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / STATUS
        self._pending: dict[str, Any] | None = None
        self._written_at = float("-inf")

    def put(self, status: Mapping[str, Any]) -> None:
        """Take the newest status; written now, or with a later call when the last is too young."""
        self._pending = dict(status)
        if time.monotonic() - self._written_at >= _INTERVAL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the newest status if it is not written yet.

        Raises:
            DiskFullError, StoreError: it could not be written; the old one stands.
        """
        if self._pending is None:
            return
        with disk_errors(self._path, StoreError):
            replace_file(self._path, encode_line(self._pending), durable=False)
        self._pending = None
        self._written_at = time.monotonic()


def read_status(run_folder: Path) -> dict[str, Any]:
    """Where a run stands: `status.json`, or where that is gone the fold of the events.

    A run that says it is running while no process holds it was interrupted.
    """
    status = _load(run_folder / STATUS)
    if status is None:
        status = fold_status(run_folder.name, read_events(run_folder).records)
    if status.get("status") == RUNNING and find_owner(run_folder) is None:
        return {**status, "status": "interrupted", "pid": None}
    return status


def fold_status(
    run: str, records: Iterable[Mapping[str, Any]], status: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The status after some event records, from nothing or from the status before them.

    `rows` counts the present iteration, and with scale the iteration that passed; calls and
    `cost_nano` (nano-dollars) count the whole run.
    """
    folded: dict[str, Any] = dict(status or _start(run))
    for record in records:
        folded["updated_at"] = record.get("at")
        match record["event"]:
            case "RunStarted":
                folded |= {"status": RUNNING, "started_at": record.get("at")}
            case "RunResumed":
                folded |= {"status": RUNNING}
            case "PhaseStarted":
                folded |= {"phase": record["phase"]}
            case "IterationStarted":
                folded |= {"iteration": record["iteration"], "rows": {}, "decision": None}
            case "ShardCommitted":
                folded["rows"] = _add(folded["rows"], record["rows"])
                folded["calls"] = _add(folded["calls"], record["calls"])
                folded["cost_nano"] += record["cost_nano"]
            case "GateDecided":
                folded |= {"decision": record["decision"]}
            case "RunFinished":
                folded |= {"status": record["status"], "pid": None}
    return folded


def _start(run: str) -> dict[str, Any]:
    return {
        "run": run,
        "status": RUNNING,
        "phase": None,
        "iteration": None,
        "rows": {},
        "calls": {"asked": 0, "replayed": 0, "reused": 0},
        "cost_nano": 0,
        "decision": None,
        "started_at": None,
        "updated_at": None,
        "pid": None,
    }


def _add(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {key: counts.get(key, 0) + more.get(key, 0) for key in {**counts, **more}}


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
