"""A workspace with one finished run in it, as a real run leaves it; every time in it is fixed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.cli.app import run_command
from nexa_core.events import (
    Event,
    GateDecided,
    IterationStarted,
    ParametersChanged,
    PhaseFinished,
    PhaseStarted,
    RunFinished,
    RunStarted,
    ShardCommitted,
    ShardProgressed,
)
from nexa_core.records import GateCheck, Verdict
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import Run, create_run

RUN = "demo-1"
PIPELINE = {
    "nexa": 1,
    "name": "demo",
    "models": {"base": {"model": "local/nexa-tiny"}},
    "steps": [
        {"generate": {"id": "respond", "model": "base"}},
        {"check": [{"empty": {"id": "empty"}}, {"runaway": {"id": "runaway"}}]},
        {"critic": {"id": "answers", "model": "base"}},
    ],
    "pilot": {"rows": "auto", "max_iterations": 5},
    "search_space": {"respond.sampling.temperature": {"min": 0.05, "max": 1.0}},
    "scale": {"accepted": 6},
    "budget": {"usd": 2.0},
}


def check(metric: str, k: int, n: int, verdict: Verdict) -> dict[str, object]:
    """A rule of the gate, measured."""
    made = GateCheck(metric, "below", 0.05, k, n, k / n, k / n / 2, min(1.0, k / n * 2), verdict)
    return made.as_json()


EVENTS: list[tuple[float, Event]] = [
    (0.0, RunStarted(RUN, "demo", "ab" * 32, 0)),
    (0.1, PhaseStarted("pilot")),
    (0.2, IterationStarted(1, {"respond.sampling.temperature": 1.0}, 10)),
    (1.0, ShardProgressed("iterations/01/00000", "respond", 5, 10)),
    (
        3.0,
        ShardCommitted(
            "iterations/01/00000", {"accepted": 4, "rejected": 6}, {"asked": 20}, 1_500_000, 2.5
        ),
    ),
    (
        3.1,
        GateDecided(
            1,
            "ITERATE",
            [check("runaway_rate", 4, 10, Verdict.FAIL), check("failed_rate", 0, 10, Verdict.PASS)],
            "reviews/demo-1/0001-pilot_qc.json",
            "runaway_rate does not hold.",
        ),
    ),
    (
        3.2,
        ParametersChanged(
            1, {"respond.sampling.temperature": [1.0, 0.3]}, "Cooler sampling runs away less."
        ),
    ),
    (3.3, IterationStarted(2, {"respond.sampling.temperature": 0.3}, 10)),
    (
        5.0,
        ShardCommitted(
            "iterations/02/00000", {"accepted": 5, "rejected": 5}, {"asked": 20}, 1_500_000, 2.0
        ),
    ),
    (
        5.1,
        GateDecided(
            2,
            "PROCEED",
            [check("runaway_rate", 0, 10, Verdict.PASS), check("failed_rate", 0, 10, Verdict.PASS)],
            "reviews/demo-1/0002-pilot_qc.json",
            "Every rule holds.",
        ),
    ),
    (5.2, PhaseFinished("pilot", 5.1)),
    (5.3, PhaseStarted("scale")),
    (
        6.0,
        ShardCommitted(
            "scale/00000", {"accepted": 1, "rejected": 1, "surplus": 1}, {"asked": 6}, 0, 0.5
        ),
    ),
    (6.1, PhaseFinished("scale", 0.8)),
    (6.2, RunFinished("done", 0)),
]

UNITS = {
    "iterations/01": {"answers": 2, "runaway": 4},
    "iterations/02": {"answers": 4, "empty": 1},
    "scale": {"answers": 1},
}


@pytest.fixture
def story() -> list[tuple[float, Event]]:
    """Every event of the finished run, with the second at which it came."""
    return EVENTS


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, which is also the current folder."""
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def run(workspace: Path) -> Run:
    """A finished run: two iterations, then scale."""
    made = create_run(
        workspace / "artifacts",
        RUN,
        "demo",
        {"pipeline": PIPELINE, "seed": 0, "gate": {"gate": "pilot_qc"}},
    )
    record = {**made.record, "created_at": "2026-01-02T03:04:05.000000+00:00"}
    made.record_path.write_text(json.dumps(record))
    made.events_path.write_text("".join(f"{line}\n" for line in _log()))
    for number, name in enumerate(UNITS):
        _write_unit(made, name, number)
    return Run(made.path)


def _log() -> list[str]:
    return [
        json.dumps({**event.as_json(), "at": f"2026-01-02T03:04:{5 + at:06.3f}+00:00", "seq": seq})
        for seq, (at, event) in enumerate(EVENTS, 1)
    ]


def _write_unit(run: Run, name: str, number: int) -> None:
    folder = run.scale if name == "scale" else run.iteration(int(name[-2:]))
    folder.create()
    committed = next(
        e for _, e in EVENTS if isinstance(e, ShardCommitted) and e.unit.startswith(name)
    )
    states = [state for state, n in committed.rows.items() for _ in range(n)]
    reasons = [reason for reason, n in UNITS[name].items() for _ in range(n)]
    table = _rows(f"{number}", states, reasons)
    pq.write_table(table, folder.shards / "00000.parquet")
    pq.write_table(_calls(table), folder.shards / "00000.calls.parquet")
    append_entry(
        folder.path,
        ShardEntry(
            unit=folder.unit(0),
            shard=0,
            rows=committed.rows,
            files={},
            content_hash="",
            reasons=UNITS[name],
            calls=committed.calls,
            cost_nano={"base": committed.cost_nano},
            source_rows=len(states),
            seconds=committed.seconds,
            at="2026-01-02T03:04:10.000+00:00",
        ),
    )


def _rows(prefix: str, states: list[str], reasons: list[str]) -> pa.Table:
    left = iter(reasons)
    rejected = [next(left) if state == "rejected" else None for state in states]
    return pa.table(
        {
            "response": ["ab\x1b]0;pwned\x07cd [/] [bold]x" for _ in states],
            "id": [f"{prefix}-{n}" for n in range(len(states))],
            "source_id": [f"s{prefix}-{n}" for n in range(len(states))],
            "sample": pa.array([0] * len(states), pa.int32()),
            "attempt": pa.array([0] * len(states), pa.int32()),
            "scores": [
                {"empty": 1.0, "answers": n / 10 if n else None} for n in range(len(states))
            ],
            "state": states,
            "reason": rejected,
        }
    )


def _calls(table: pa.Table) -> pa.Table:
    ids = table["id"].to_pylist()
    return pa.table(
        {"call_id": [f"c{one}" for one in ids], "row_id": ids, "step": ["respond"] * len(ids)}
    )


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]):
    """Runs a command inside this process; stdout and stderr apart, as two pipes would see them."""

    def run_nexa(*arguments: str) -> Finished:
        code = run_command(list(arguments))
        return Finished(code, *capsys.readouterr())

    return run_nexa


@pytest.fixture
def golden():
    """Compares text with the bytes in golden/NAME; NEXA_CORE_UPDATE_GOLDEN=1 stores it anew."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("NEXA_CORE_UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
        assert text.encode() == path.read_bytes()

    return compare
