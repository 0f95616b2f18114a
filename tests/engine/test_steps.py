"""Stages between streams: grouping, order, early rejection; and the accept rule by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.engine.batch import Batch, concat
from nexa_core.engine.plan import Plan
from nexa_core.engine.shard import micro_batch
from nexa_core.engine.steps.accepting import AcceptRule, Term, accept_rows
from nexa_core.engine.steps.stream import in_groups, side_by_side
from nexa_core.pipeline import pipeline_from
from nexa_core.records import REASON_HEAD, ScoreColumns, State, name_reason


def batch_of(count: int, dead: set[int] | None = None) -> Batch:
    """Rows 0 … count, those in `dead` settled already."""
    table = pa.table({"n": list(range(count)), "id": [str(n) for n in range(count)]})
    batch = Batch.start(table)
    mask = pa.array([n in (dead or set()) for n in range(count)])
    return batch.settle(mask, State.REJECTED, "dead")


async def cut(batch: Batch, sizes: list[int]) -> AsyncIterator[Batch]:
    start = 0
    for size in [*sizes, len(batch)]:
        if start < len(batch):
            yield batch.slice(start, min(size, len(batch) - start))
            start += size


def collect(stream: AsyncIterator[Batch]) -> list[Batch]:
    async def gather() -> list[Batch]:
        return [batch async for batch in stream]

    return asyncio.run(gather())


@given(
    st.integers(1, 60),
    st.sets(st.integers(0, 59)),
    st.lists(st.integers(1, 20), max_size=6),
    st.integers(1, 10),
)
def test_groups_depend_on_row_order_alone(
    count: int, dead: set[int], sizes: list[int], size: int
) -> None:
    """However rows arrive, the groups a local model sees are the same, and no row is lost."""
    batch = batch_of(count, dead)
    seen: list[list[int]] = []

    async def work(group: Batch) -> Batch:
        alive = group.alive_positions()
        seen.append(group.table["n"].take(pa.array(alive)).to_pylist())
        return group

    out = collect(in_groups(cut(batch, sizes), work, size))
    expected = [n for n in range(count) if n not in dead]
    groups = [group for group in seen if group]
    assert groups == [expected[i : i + size] for i in range(0, len(expected), size)]
    assert concat(out).table["n"].to_pylist() == list(range(count))


def test_batches_at_work_at_once_leave_in_order() -> None:
    """A slow batch holds its place; what comes after it waits."""

    async def work(batch: Batch) -> Batch:
        first = batch.table["n"][0].as_py()
        await asyncio.sleep(0.02 if first == 0 else 0.0)
        return batch

    out = collect(side_by_side(cut(batch_of(9), [3, 3]), work, 8))
    assert [b.table["n"][0].as_py() for b in out] == [0, 3, 6]


def test_what_is_under_way_is_waited_for_when_one_fails() -> None:
    """A failing batch must not cancel calls that may be paid for."""
    finished: list[int] = []

    async def work(batch: Batch) -> Batch:
        first = batch.table["n"][0].as_py()
        await asyncio.sleep(0.02)
        if first == 0:
            raise RuntimeError("no")
        finished.append(first)
        return batch

    with pytest.raises(RuntimeError):
        collect(side_by_side(cut(batch_of(9), [3, 3]), work, 8))
    assert finished == [3, 6]


def scored(**scores: list[float | None]) -> Batch:
    """Rows with the given scores."""
    count = len(next(iter(scores.values())))
    batch = batch_of(count)
    for name, values in scores.items():
        batch = batch.with_score(name, pa.array(values, pa.float64()))
    return batch


def test_accept_is_a_conjunction_with_the_first_failure_as_reason() -> None:
    """A row is accepted when every term holds, and rejected by the first that does not."""
    rule = AcceptRule((Term("a", ("a",), 0.5), Term("b", ("b",), 0.5)))
    out = accept_rows(scored(a=[1.0, 0.0, 1.0, 0.0], b=[1.0, 1.0, 0.0, 0.0]), rule)
    assert out.state.to_pylist() == ["accepted", "rejected", "rejected", "rejected"]
    assert out.reason.to_pylist() == [None, "a", "b", "a"]


def test_a_missing_score_is_unscored_never_accepted() -> None:
    """What could not be judged is no pass."""
    out = accept_rows(scored(a=[None, 1.0]), AcceptRule((Term("a", ("a",), 0.5),)))
    assert out.reason.to_pylist() == ["unscored", None]
    gone = accept_rows(scored(a=[1.0]), AcceptRule((Term("b", ("b",), 0.5),)))
    assert gone.reason.to_pylist() == ["unscored"]


def test_bounds_are_at_least_and_below() -> None:
    """The lower bound is in, the upper bound is out."""
    rule = AcceptRule((Term("a", ("a",), 0.5, 0.8),))
    out = accept_rows(scored(a=[0.5, 0.8, 0.79999, 0.49999]), rule)
    assert out.state.to_pylist() == ["accepted", "rejected", "accepted", "rejected"]


def test_consensus_all_any_mean() -> None:
    """Several judges agree by all, by any, or on average."""
    rows = scored(f=[0.9, 0.9, 0.1], r=[0.9, 0.5, 0.1])
    states = {
        mode: accept_rows(
            rows, AcceptRule((Term("m", ("f", "r"), 0.7, mode=mode),))
        ).state.to_pylist()
        for mode in ("all", "any", "mean")
    }
    assert states["all"] == ["accepted", "rejected", "rejected"]
    assert states["any"] == ["accepted", "accepted", "rejected"]
    assert states["mean"] == ["accepted", "accepted", "rejected"]


def test_flags_reject_only_where_the_rule_says_so() -> None:
    """`on_fail: flag` keeps a row unless `no_flags` is set."""
    found = ScoreColumns(pa.array([1.0, 0.0]), pa.array([True, False]))
    batch = batch_of(2).apply_check("unsafe", found, "flag")
    assert accept_rows(batch, AcceptRule()).state.to_pylist() == ["accepted", "accepted"]
    strict = accept_rows(batch, AcceptRule(no_flags=True))
    assert strict.reason.to_pylist() == ["flag: unsafe", None]


def test_a_settled_row_stays_settled() -> None:
    """The first state and reason of a row are its last."""
    batch = batch_of(2, dead={0}).settle(pa.array([True, True]), State.FAILED, "later")
    assert batch.reason.to_pylist() == ["dead", "later"]


async def test_a_batch_that_is_done_leaves_before_the_next_one_comes() -> None:
    """A slow source does not hold back what is finished: the stage after it gets it at once."""
    gate = asyncio.Event()

    async def come() -> AsyncIterator[Batch]:
        yield batch_of(2)
        await gate.wait()
        yield batch_of(2)

    async def work(batch: Batch) -> Batch:
        await asyncio.sleep(0.01)
        return batch

    stream = side_by_side(come(), work, 8)
    first = await asyncio.wait_for(anext(stream), 1)
    gate.set()
    rest = [batch async for batch in stream]
    assert (len(first), [len(batch) for batch in rest]) == (2, [2])


@pytest.mark.parametrize(("concurrency", "rows"), [(None, 64), (64, 16), (8, 4), (1, 4)])
def test_rows_travel_in_a_quarter_of_the_concurrency(concurrency: int | None, rows: int) -> None:
    """A judge must not wait for more rows than the teacher answers at once."""
    model = {"model": "vllm/m"} | ({"concurrency": concurrency} if concurrency else {})
    step = {"generate": {"model": "m", "prompt": {"user": "hi"}}}
    pipeline = pipeline_from(
        {"nexa": 1, "name": "p", "source": {"path": "x"}, "models": {"m": model}, "steps": [step]}
    )
    assert micro_batch(Plan(pipeline, None, None, {}, None)) == rows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "head"),
    [
        ("length: 2 of at least 5 characters", "length"),
        ("flag: safety", "flag: safety"),
        ("min_score", "min_score"),
        ("answer: HTTP 500: try: again\nlater: more", "answer"),
        ("runaway: runs on '\\nInput:'", "runaway"),
    ],
)
def test_reasons_are_counted_without_details_and_flags_by_name(reason: str, head: str) -> None:
    """Which flag took a row is what its reader wants to know; one rule for Arrow and for Python."""
    assert name_reason(reason) == head
    assert pc.replace_substring_regex(pa.array([reason]), REASON_HEAD, r"\1").to_pylist() == [head]
