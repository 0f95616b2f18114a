"""Metric outcomes of rows, summed into tallies that add up over shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.errors import CheckError, boundary
from nexa_core.gates import slice_key
from nexa_core.protocols import Metric
from nexa_core.records import State
from nexa_core.visible import make_visible

MOST_SLICES = 50
LONGEST_SLICE = 80
"""Values of a column that a gate may slice by: of more, none would have rows enough."""


@dataclass(frozen=True)
class NamedMetric:
    """A metric as a gate uses it. `key` tells two uses of one metric apart (`Rule.key`)."""

    key: str
    name: str
    metric: Metric
    aggregate: str
    population: str


def tally_rows(
    metrics: Iterable[NamedMetric], table: pa.Table, slices: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The tally of every metric over one shard: one sample per source row, its last attempt.

    Failed rows are outside every population but that of `failed_rate`. Rates and medians are tallied
    for every value of the columns in `slices` too.
    """
    metrics = tuple(metrics)
    if not metrics:
        return {}
    measured = _measured(table)
    failed = pc.equal(measured["state"], State.FAILED.value)
    healthy = measured.filter(pc.invert(failed)) if pc.any(failed).as_py() else measured
    tallies = {}
    for named in metrics:
        rows = measured if named.name == "failed_rate" else healthy
        with boundary(CheckError, f"The metric '{named.name}'"):
            outcomes = named.metric.outcomes(rows)
            tallies[named.key] = tally(outcomes, named.aggregate)
        if named.aggregate != "mean":
            for column in slices:
                tallies |= _tally_slices(named, outcomes, rows, column)
    return tallies


def _tally_slices(
    named: NamedMetric, outcomes: pa.Array | pa.ChunkedArray, rows: pa.Table, column: str
) -> dict[str, dict[str, Any]]:
    """One metric's tallies by the values of a column; rows without one are in none of them."""
    values = rows[column].cast(pa.string())
    known = sorted(pc.unique(values).drop_null().to_pylist())
    if len(known) > MOST_SLICES:
        raise CheckError(
            f"The gate slices by '{column}', which has {len(known)} values in one shard.",
            f"Slice by a column of at most {MOST_SLICES} values, such as a language or a topic.",
        )
    shown: dict[str, list[str]] = {}
    for value in known:
        # The key stands in records, on screens and before reviewers: one line of text that is only text.
        shown.setdefault(" ".join(make_visible(value).split())[:LONGEST_SLICE], []).append(value)
    found = {
        slice_key(named.key, column, name): tally(
            outcomes.filter(pc.is_in(values, value_set=pa.array(group))), named.aggregate
        )
        for name, group in shown.items()
    }
    return {key: one for key, one in found.items() if one["n"]}


def _measured(table: pa.Table) -> pa.Table:
    keep = pc.equal(table["sample"], 0)
    if pc.max(table["attempt"]).as_py():
        superseded = pc.is_in(
            table["id"], value_set=table["parent_id"].combine_chunks().drop_null()
        )
        keep = pc.and_(keep, pc.invert(superseded))
    return table if pc.all(keep).as_py() else table.filter(keep)


def tally(outcomes: pa.Array | pa.ChunkedArray, aggregate: str) -> dict[str, Any]:
    """One metric's outcomes, summed; nulls are outside the population.

    A rate gives {n, k}, a median {n, histogram: {number as text: count}}, a mean {n, total}.
    """
    n = len(outcomes) - outcomes.null_count
    if aggregate == "rate":
        return {"n": n, "k": int(pc.sum(outcomes.cast(pa.bool_())).as_py() or 0)}
    if aggregate == "median":
        counts = pc.value_counts(outcomes.drop_null())
        pairs = zip(
            counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True
        )
        return {"n": n, "histogram": {f"{value:g}": count for value, count in sorted(pairs)}}
    return {"n": n, "total": float(pc.sum(outcomes).as_py() or 0.0)}
