"""The server's own log, one JSON line per request, and the sums of it: what a test believes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Entry", "Log", "Stats", "read_log"]

_GROUP = 500
_LINE = (
    '{"number":%d,"hash":"%s","path":%s,"at":%.6f,"seconds":%.6f,"status":%d,"fault":%s,"flushed":%s,'
    '"bill":%d,"prompt_tokens":%d,"completion_tokens":%d,"in_flight":%d,"keyed":%s}\n'
)


class Entry(NamedTuple):
    """One request, logged when its reply ended.

    `hash` is that of its body, the same for every try. `at` counts seconds since the server
    started, `seconds` how long the reply took. `status` is 0 where no reply was begun. `fault` is what was done to
    it. `flushed` says that the kernel took the whole reply while the client was there. `bill` is in
    nano-dollars. `in_flight` is the number of requests under way as this one arrived, itself
    included. `keyed` says that it brought a key.
    """

    number: int
    hash: str
    path: str
    at: float
    seconds: float
    status: int
    fault: str | None
    flushed: bool
    bill: int
    prompt_tokens: int
    completion_tokens: int
    in_flight: int
    keyed: bool

    @property
    def answered(self) -> bool:
        """Whether a whole reply went out that a client can use."""
        return self.flushed and self.status == 200 and self.fault not in _USELESS


_USELESS = {"invalid_json", "wrong_shape", "html", "error_200"}


@dataclass
class Stats:
    """The sums of the log: requests by status and by fault, the bill, the most at once."""

    requests: int = 0
    flushed: int = 0
    bill_nano: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    queued: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Log:
    """Appends entries to a file in groups, or keeps them; sums them in either case."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.stats = Stats()
        self._lines: list[str] = []
        self._fd: int | None = None
        if path is not None:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, entry: Entry) -> None:
        stats = self.stats
        stats.requests += 1
        stats.flushed += entry.flushed
        stats.bill_nano += entry.bill
        stats.statuses[str(entry.status)] += 1
        if entry.fault is not None:
            stats.faults[entry.fault] += 1
        self._lines.append(_format_line(entry))
        if self._fd is not None and len(self._lines) >= _GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered, where there is a file."""
        if self._fd is not None and self._lines:
            os.write(self._fd, "".join(self._lines).encode())
            self._lines.clear()

    def close(self) -> None:
        self.flush()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __iter__(self) -> Iterator[Entry]:
        self.flush()
        if self.path is not None:
            return read_log(self.path)
        return (Entry(**json.loads(line)) for line in self._lines)

    def __len__(self) -> int:
        return self.stats.requests


def _format_line(entry: Entry) -> str:
    """An entry as JSON, four times as fast as an encoder: the log must not cost what replies cost."""
    number, key, path, at, seconds, status, fault, flushed, *counts, keyed = entry
    path, told = _quote(path), "null" if fault is None else f'"{fault}"'
    sent, known = _BOOLEANS[flushed], _BOOLEANS[keyed]
    return _LINE % (number, key, path, at, seconds, status, told, sent, *counts, known)


_BOOLEANS = {True: "true", False: "false"}
_quote = lru_cache(maxsize=256)(json.dumps)


def read_log(path: Path) -> Iterator[Entry]:
    """The entries of a log file, oldest first."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Entry(**json.loads(line))
