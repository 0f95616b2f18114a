"""`status.json`: where a run stands, derived, replaced whole, and safe to delete."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexa_core.errors import StoreError
from nexa_core.store.files import disk_errors, encode_line, replace_file

__all__ = ["STATUS", "StatusFile", "load_status"]

STATUS = "status.json"
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
        """Write the newest status if it is not written yet."""
        if self._pending is None:
            return
        with disk_errors(self._path, StoreError):
            replace_file(self._path, encode_line(self._pending), durable=False)
        self._pending = None
        self._written_at = time.monotonic()


def load_status(run_folder: Path) -> dict[str, Any] | None:
    """The status as last written; None where there is none or it cannot be read."""
    try:
        value = json.loads((run_folder / STATUS).read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
