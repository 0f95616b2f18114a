"""The JSON Lines files that ship with nexa-tiny, as sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ShippedLines:
    """A shipped file of one JSON object a line, read anew by every call of `rows`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> Iterator[dict[str, Any]]:
        """The objects in file order."""
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
