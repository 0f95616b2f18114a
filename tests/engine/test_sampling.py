"""Rows shown while a run makes them: few, short, of every kind, and without harm to the run."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from nexa_core.engine.batch import Batch
from nexa_core.engine.sampling import RowSampler
from nexa_core.events import RowsSampled
from nexa_core.pipeline import load_pipeline
from nexa_core.records import State

PIPELINE = """
nexa: 1
name: p
source: {path: rows.jsonl}
models: {m: {model: scripted/x}}
steps:
  - generate: {id: answer, model: m, prompt: {user: "{{ q }}"}, into: response}
pilot: {rows: 40, shard_rows: 4}
"""


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(count: int, rejected: int, **columns: list[object]) -> Batch:
    """Rows of which the last `rejected` are rejected."""
    table = pa.table({"id": [f"r{n}" for n in range(count)], **columns})
    batch = Batch.start(table)
    bad = pa.array([n >= count - rejected for n in range(count)])
    done = batch.settle(bad, State.REJECTED, "empty").settle(
        pa.array([True] * count), State.ACCEPTED, ""
    )
    return done.with_score("judge", pa.array([0.5] * count))


def test_two_rows_a_second_however_many_are_offered():
    """Over ten seconds of a hundred batches each, twenty rows are announced, of both kinds."""
    told: list[RowsSampled] = []
    clock = Clock()
    sampler = RowSampler(told.append, clock)
    batch = settled(8, 2)
    for _ in range(1000):
        sampler.offer("scale/00000", batch)
        clock.now += 0.01
    assert sum(len(one.rows) for one in told) == 20
    assert [row["state"] for row in told[0].rows] == ["accepted", "rejected"]
    assert told[0].rows[0] == {
        "id": "r0",
        "state": "accepted",
        "reason": "",
        "scores": {"judge": 0.5},
    }


def test_an_event_is_small_whatever_the_row_holds():
    """Megabytes of text, deep lists and hundreds of columns become a few kilobytes."""
    told: list[RowsSampled] = []
    wide: dict[str, list[object]] = {f"c{n}": ["x" * 1_000_000] for n in range(40)}
    RowSampler(told.append).offer("u", settled(1, 0, turns=[[["y" * 1_000_000]]], **wide))
    assert len(json.dumps(told[0].as_json())) < 20_000
    assert told[0].rows[0]["turns"].startswith('[["yyy')


def test_a_value_python_cannot_hold_stops_nothing():
    """A row that cannot be shown is not shown."""
    told: list[RowsSampled] = []
    odd = pa.array([2**63 - 1], pa.timestamp("s"))
    RowSampler(told.append).offer("u", settled(1, 0, when=odd))
    assert told == []


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_shows_its_rows_while_it_makes_them(workspace, write_rows, fast, monkeypatch):
    """Rows come as events before their shard is committed, and a fast run emits no more of them."""
    from nexa_core.actions import running
    from nexa_core.plugins import load_plugins

    write_rows([{"q": f"say {n}"} for n in range(40)])
    (workspace.root / "p.yaml").write_text(PIPELINE)
    monkeypatch.setattr("nexa_core.engine.sampling.SECONDS_APART", 60.0 if fast else 0.0)
    seen: list[object] = []
    plugins = load_plugins(workspace)
    running.start(
        load_pipeline(workspace.root / "p.yaml", []), workspace, plugins, listeners=[seen.append]
    )
    names = [type(event).__name__ for event in seen]
    assert names.count("RowsSampled") == (1 if fast else 10)
    assert names.index("RowsSampled") < names.index("ShardCommitted")
