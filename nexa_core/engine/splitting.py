"""Which split a source belongs to: decided by seed and id, and for merged runs as each run had it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Split", "Splits", "place_source"]


def place_source(seed: int, source_id: str) -> float:
    """Where a source stands between 0 and 1: uniform, and decided by seed and id alone.

    The hash is another than the one by which pilots draw their rows (`sample_rows`): else the first
    pilot's sources would be the validation split, and those of a failed pilot would be missing from it.
    """
    named = f"split:{seed}:{source_id}".encode()
    digest = hashlib.blake2b(named, digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


@dataclass(frozen=True)
class Split:
    """One run's split: sources placed below `cutoff` are held out for validation.

    `sources` are sorted 64-bit digests of the run's source ids, 8 bytes each; None stands for all.
    """

    seed: int
    cutoff: float
    sources: Any = None

    @classmethod
    def over(cls, seed: int, cutoff: float, source_ids: Iterable[str]) -> Split:
        """The split of a run that had these sources."""
        digests = np.fromiter(map(_digest, set(source_ids)), np.uint64)
        digests.sort()
        return cls(seed, cutoff, digests)

    def knows(self, source_id: str) -> bool:
        """Whether the run had this source."""
        if self.sources is None:
            return True
        digest = np.uint64(_digest(source_id))
        at = int(np.searchsorted(self.sources, digest))
        return at < len(self.sources) and bool(self.sources[at] == digest)

    def holds_out(self, source_id: str) -> bool:
        """Whether the source is held out for validation."""
        return place_source(self.seed, source_id) < self.cutoff


@dataclass
class Splits:
    """The splits of all runs: a source is where the first run that had it put it.

    `moved` counts the sources that a later run had put elsewhere.
    """

    runs: Sequence[Split]
    _moved: set[str] = field(default_factory=set)

    @property
    def moved(self) -> int:
        """How many sources are not where one of their runs had them."""
        return len(self._moved)

    def holds_out(self, source_id: str) -> bool:
        """Whether the source is held out for validation."""
        said = [split.holds_out(source_id) for split in self.runs if split.knows(source_id)]
        if not said:
            return self.runs[0].holds_out(source_id)
        if len(set(said)) > 1:
            self._moved.add(source_id)
        return said[0]


def _digest(source_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(source_id.encode(), digest_size=8).digest())
