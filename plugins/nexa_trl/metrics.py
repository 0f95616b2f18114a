"""Metrics over the log of a training: one outcome a step that says its loss."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

__all__ = ["LossSpikes", "NonfiniteLoss"]

WINDOW = 20
"""Steps before a step that its loss is compared with."""
FEWEST = 5
SPIKE = 3.0
"""How many times the distance of the quartiles above their median a spike lies."""


class NonfiniteLoss:
    """True where the loss is no number, or infinite; null where a step says none."""

    def outcomes(self, table: pa.Table) -> pa.Array:
        losses = table["loss"].to_pylist()
        return pa.array([None if x is None else not math.isfinite(x) for x in losses], pa.bool_())


class LossSpikes:
    """True where the loss lies far above the twenty before it; null for the first five.

    Far is three times their interquartile range above their median, and a tenth of the median at
    least, so that a loss that has settled does not spike by its noise.
    """

    def outcomes(self, table: pa.Table) -> pa.Array:
        losses = table["loss"].to_pylist()
        found: list[bool | None] = []
        for step, loss in enumerate(losses):
            before = [
                x
                for x in losses[max(0, step - WINDOW) : step]
                if x is not None and math.isfinite(x)
            ]
            if loss is None or len(before) < FEWEST:
                found.append(None)
                continue
            low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
            bound = middle + max(SPIKE * (high - low), 0.1 * abs(middle))
            found.append(not math.isfinite(loss) or bool(loss > bound))
        return pa.array(found, pa.bool_())
