"""Turns what a check found into score columns."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from nexa_core import ScoreColumns

from nexa_checks.columns import Array, Column, as_array


def pass_or_fail(failed: Column | Array, reason: str) -> ScoreColumns:
    """1 where a row passes, 0 where it fails, with one reason for all; null where it is null."""
    mask = as_array(failed)
    reasons = explain(mask, lambda rows: pa.repeat(pa.scalar(reason), rows.true_count))
    return ScoreColumns(score_passing(mask), mask, reasons)


def score_passing(failed: Array) -> Array:
    """1.0 where `failed` is false, 0.0 where it is true."""
    return pc.invert(failed).cast(pa.float64())


def explain(failed: Array, make: Callable[[pa.BooleanArray], Array]) -> Array:
    """Reasons for the failed rows only: `make` gets the mask and returns one text per true."""
    empty = pa.nulls(len(failed), pa.string())
    if not failed.true_count:
        return empty
    return pc.replace_with_mask(empty, failed, make(failed).cast(pa.string()))
