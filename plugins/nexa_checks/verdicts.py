"""Turns what a check found into score columns."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column, as_array
from nexa_core import ScoreColumns

_PASS, _FAIL = pa.scalar(1.0), pa.scalar(0.0)
_NO_REASON = pa.scalar(None, pa.string())


def pass_or_fail(failed: Column | Array, reason: str) -> ScoreColumns:
    """1 where a row passes, 0 where it fails, with one reason for all; null where it is null."""
    mask = as_array(failed)
    reasons = pa.nulls(len(mask), pa.string())
    if mask.true_count:
        reasons = pc.if_else(mask, reason, _NO_REASON)
    return ScoreColumns(score_passing(mask), mask, reasons)


def score_passing(failed: Array) -> Array:
    """1.0 where `failed` is false, 0.0 where it is true."""
    return pc.if_else(failed, _FAIL, _PASS)


def explain(failed: Array, make: Callable[[], Array], reasons: Array | None = None) -> Array:
    """Reasons of the failed rows, one from `make` for each; `reasons` or null for the others."""
    if reasons is None:
        reasons = pa.nulls(len(failed), pa.string())
    if not failed.true_count:
        return reasons
    mask = pc.fill_null(failed, False) if failed.null_count else failed
    return pc.replace_with_mask(reasons, mask, make())
