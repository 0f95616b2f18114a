"""The response surface: how often rows of the tiny model fail each rule, by sampling parameters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SURFACE = Path(__file__).with_name("surface.json")
GOOD, FAILING, OUTSIDE = "0", "1", "-"
"""What one row is to one rule: as it should be, failing, or outside the rule's population."""


@dataclass(frozen=True)
class Surface:
    """Measured rows as patterns, one character per rule; `counts[point][pattern]` of every grid point.

    `axes` holds the grid's values by parameter path; the points are their product, last path fastest.
    """

    axes: Mapping[str, Sequence[float]]
    rules: tuple[str, ...]
    patterns: tuple[str, ...]
    counts: NDArray[np.int64]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path = SURFACE) -> Surface:
        """The surface that `benchmarks/surface.py` measured."""
        data = json.loads(path.read_text("utf-8"))
        patterns = tuple(sorted({p for point in data["points"] for p in point["rows"]}))
        counts = [[point["rows"].get(p, 0) for p in patterns] for point in data["points"]]
        facts = {key: data[key] for key in ("made_by", "pipeline", "model", "rows", "seed")}
        return cls(data["axes"], tuple(data["rules"]), patterns, np.array(counts), facts)

    def shares(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """The chance of each pattern at any parameters: between grid points linear along every axis."""
        weights = np.ones(1)
        for path, grid in self.axes.items():
            weights = np.outer(weights, _weigh(grid, values[path])).ravel()
        shares = weights @ (self.counts / self.counts.sum(axis=1, keepdims=True))
        return np.asarray(shares)

    def rates(self, values: Mapping[str, float]) -> dict[str, float]:
        """The failure rate of each rule within its population."""
        shares, found = self.shares(values), {}
        for i, rule in enumerate(self.rules):
            failing = sum(s for s, p in zip(shares, self.patterns, strict=True) if p[i] == FAILING)
            inside = sum(s for s, p in zip(shares, self.patterns, strict=True) if p[i] != OUTSIDE)
            found[rule] = float(failing / inside) if inside else 0.0
        return found

    def points(self) -> list[dict[str, float]]:
        """Every grid point as parameters, in the order of `counts`."""
        return [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]


def _weigh(grid: Sequence[float], value: float) -> NDArray[np.float64]:
    """The weight of each grid value at a value: two neighbours at most; the ends hold beyond the grid."""
    weights, inside = np.zeros(len(grid)), float(np.clip(value, grid[0], grid[-1]))
    upper = max(1, int(np.searchsorted(grid, inside)))
    part = (inside - grid[upper - 1]) / (grid[upper] - grid[upper - 1])
    weights[upper - 1], weights[upper] = 1.0 - part, part
    return weights
