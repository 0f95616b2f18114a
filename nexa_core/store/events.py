"""The log of what happened in a run: `events.jsonl`, written line by line, read as it grows."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa_core.errors import StoreError
from nexa_core.store.files import (
    cut_torn_line,
    disk_errors,
    encode_line,
    read_lines,
    sync_data,
    write_all,
)

if TYPE_CHECKING:
    from nexa_core.events import Event

__all__ = ["EVENTS", "EventBatch", "EventLog", "read_events"]

EVENTS = "events.jsonl"
_DURABLE = {"RunStarted", "SettingChanged", "GateDecided", "RunFinished"}
"""By name: who only reads a log has no need of the classes, which take a tenth of a start to make."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events read from `offset` on; `unreadable` counts complete lines that are no event."""

    records: list[dict[str, Any]]
    offset: int
    """Where to read on."""
    unreadable: int = 0


class EventLog:
    """The writer of a run's events. One process has it: the holder of the run's lock.

    Every event is handed to the kernel at once, so readers see it and a kill loses none; decisions
    and changes of settings are forced to disk too.
    """

    def __init__(self, path: Path, fd: int, seq: int) -> None:
        self._path, self._fd, self._seq = path, fd, seq

    @classmethod
    def open(cls, run_folder: Path) -> EventLog:
        """Open the log and go on numbering; the first event cuts a torn last line.

        Raises:
            StoreError: the log cannot be opened.
        """
        path = run_folder / EVENTS
        with disk_errors(path, StoreError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        records = read_events(run_folder).records
        return cls(path, fd, max((record.get("seq", 0) for record in records), default=0))

    def append(self, event: Event) -> dict[str, Any]:
        """Log an event; its record, with `at` (UTC, milliseconds) and `seq`.

        Raises:
            DiskFullError, StoreError: it could not be written.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {**event.as_json(), "at": at, "seq": self._seq + 1}
        with disk_errors(self._path, StoreError):
            cut_torn_line(self._fd)
            write_all(self._fd, encode_line(record))
            if type(event).__name__ in _DURABLE:
                sync_data(self._fd)
        self._seq += 1
        return record

    def close(self) -> None:
        """Force everything to disk and release the file."""
        with disk_errors(self._path, StoreError):
            sync_data(self._fd)
            os.close(self._fd)


def read_events(run_folder: Path, from_offset: int = 0, most: int | None = None) -> EventBatch:
    """The events from a byte offset on (0 or the `offset` of an earlier batch), oldest first.

    At most so many lines are read. A half-written last line is left for the next call. No log means
    no events.
    """
    records, offset, unreadable = [], from_offset, 0
    for line in islice(read_lines(run_folder / EVENTS, from_offset), most):
        offset += len(line)
        try:
            record = json.loads(line)
            record["event"], record["seq"]
        except (ValueError, TypeError, KeyError):
            unreadable += 1
        else:
            records.append(record)
    return EventBatch(records, offset, unreadable)
