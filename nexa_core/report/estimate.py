"""The estimate that a run began with, against what it was billed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_core.errors import NexaError
from nexa_core.report.folder import Facts
from nexa_core.report.timing import Cost
from nexa_core.store.journal import read_journal
from nexa_core.store.segments import list_units

__all__ = ["Compared", "EstimateView", "compare_estimate"]

_COUNTED = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Compared:
    """One role, or the whole run: what was expected, and what came. Money is in nano-dollars."""

    role: str
    calls: tuple[int, int]
    tokens: tuple[int, int]
    nano: tuple[int | None, int]


@dataclass(frozen=True)
class EstimateView:
    """The table of roles; `total` says the whole run's, with what was not estimated (evaluation).

    `each` holds the nano-dollars per accepted row.
    """

    roles: tuple[Compared, ...]
    total: Compared
    each: tuple[float | None, float | None]
    rows: tuple[int, int]
    """Accepted rows, expected and come."""


@dataclass
class _Bill:
    """Calls and tokens by role, summed from the call files and from the journals of reviews."""

    calls: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def compare_estimate(facts: Facts, cost: Cost) -> EstimateView | None:
    """The estimate beside the bill; None where the run keeps no estimate.

    Replies that another run had paid for are neither calls nor tokens of this one.
    """
    estimate = facts.estimate
    if estimate is None:
        return None
    bill = _add_calls(facts)
    expected = {str(each["role"]): each for each in estimate.get("roles", [])}
    names = [*expected, *sorted(set(bill.calls) - set(expected))]
    roles = tuple(_compare(name, expected.get(name, {}), bill, cost) for name in names)
    total = Compared(
        "whole run",
        (int(estimate.get("calls", 0)), sum(role.calls[1] for role in roles)),
        (_tokens(estimate), sum(role.tokens[1] for role in roles)),
        (_nano(estimate), cost.total),
    )
    usd_each = estimate.get("usd_per_accepted_row")
    each = None if usd_each is None else usd_each * 1e9
    return EstimateView(
        roles,
        total,
        (each, cost.total / facts.accepted if facts.accepted else None),
        (int(estimate.get("accepted_rows", 0)), facts.accepted),
    )


def _compare(role: str, expected: Mapping[str, Any], bill: _Bill, cost: Cost) -> Compared:
    return Compared(
        role,
        (int(expected.get("calls", 0)), bill.calls.get(role, 0)),
        (_tokens(expected), bill.tokens.get(role, 0)),
        (_nano(expected) if expected else 0, cost.by_role.get(role, 0)),
    )


def _tokens(sums: Mapping[str, Any]) -> int:
    return sum(int(sums.get(name) or 0) for name in _COUNTED)


def _nano(sums: Mapping[str, Any]) -> int | None:
    usd = sums.get("usd")
    return None if usd is None else round(usd * 1e9)


def _add_calls(facts: Facts) -> _Bill:
    bill = _Bill()
    for path in _call_files(facts):
        _add_file(path, bill)
    for unit in facts.iterations:
        _add_reviews(unit.folder.reviews, bill)
    return bill


def _add_reviews(folder: Path, bill: _Bill) -> None:
    """Add what reviewers were asked; a damaged journal is left out, as everywhere in the report."""
    for name in list_units(folder):
        with suppress(NexaError):
            for frame in read_journal(folder, name).replies.values():
                role = str(frame.get("role", ""))
                usage = frame["reply"].get("usage") or {}
                bill.calls[role] = bill.calls.get(role, 0) + 1
                bill.tokens[role] = bill.tokens.get(role, 0) + _tokens(usage)


def _call_files(facts: Facts) -> Iterator[Path]:
    for unit in facts.units:
        for entry in unit.entries:
            for name in entry.files:
                if name.endswith(".calls.parquet"):
                    yield unit.folder.shards / name


def _add_file(path: Path, bill: _Bill) -> None:
    """Add one file's calls; a damaged one is left out, as everywhere in the report."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(["role", "origin", *_COUNTED])
    except (pa.ArrowException, OSError, KeyError):
        return
    table = table.filter(pc.not_equal(table["origin"], "reused"))
    sums = [(name, "sum") for name in _COUNTED]
    for row in table.group_by("role").aggregate([("origin", "count"), *sums]).to_pylist():
        role = row["role"]
        bill.calls[role] = bill.calls.get(role, 0) + row["origin_count"]
        tokens = sum(row[f"{name}_sum"] or 0 for name in _COUNTED)
        bill.tokens[role] = bill.tokens.get(role, 0) + tokens
