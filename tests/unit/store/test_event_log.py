"""The event log and the status folded from it."""

import json
from pathlib import Path

import pytest

from nexa_core.errors import DiskFullError
from nexa_core.events import (
    GateDecided,
    IterationStarted,
    PhaseStarted,
    RunFinished,
    RunStarted,
    ShardCommitted,
    WarningRaised,
)
from nexa_core.store.events import EventLog, read_events
from nexa_core.store.lock import RunLock
from nexa_core.store.status import StatusFile, fold_status, read_status
from nexa_core.testing.faults import cut_file, limited_file_size

STARTED = RunStarted("run", "demo", "abc", 0)
COMMITTED = ShardCommitted("scale/00000", {"accepted": 3}, {"asked": 4}, 100, 1.0)


def write(folder: Path, *events) -> None:
    log = EventLog.open(folder)
    for event in events:
        log.append(event)
    log.close()


def test_events_are_numbered_through_a_resume(tmp_path: Path) -> None:
    """Numbers go on where the last process ended; every event carries its time in UTC."""
    write(tmp_path, STARTED, WarningRaised("slow"))
    write(tmp_path, WarningRaised("slower"))
    records = read_events(tmp_path).records
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert [record["event"] for record in records][:2] == ["RunStarted", "WarningRaised"]
    assert all(record["at"].endswith("+00:00") for record in records)


def test_a_reader_gets_each_event_once(tmp_path: Path) -> None:
    """A screen that reads on from where it was sees new events at once, and no half ones."""
    log = EventLog.open(tmp_path)
    log.append(STARTED)
    first = read_events(tmp_path)
    log.append(COMMITTED)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "Warn')
    second = read_events(tmp_path, first.offset)
    assert [record["event"] for record in second.records] == ["ShardCommitted"]
    assert read_events(tmp_path, second.offset).records == []


def test_a_torn_event_is_cut_before_the_next(tmp_path: Path) -> None:
    """A half-written line of a dead process does not spoil the next event."""
    write(tmp_path, STARTED, COMMITTED)
    cut_file(tmp_path / "events.jsonl", -9)
    write(tmp_path, WarningRaised("again"))
    records = read_events(tmp_path).records
    assert [(r["seq"], r["event"]) for r in records] == [(1, "RunStarted"), (2, "WarningRaised")]


def test_an_event_that_did_not_fit_does_not_spoil_the_next(tmp_path: Path) -> None:
    """A full disk is a typed error; with room again the log goes on in whole lines."""
    log = EventLog.open(tmp_path)
    log.append(STARTED)
    limit = (tmp_path / "events.jsonl").stat().st_size + 10
    with limited_file_size(limit), pytest.raises(DiskFullError):
        log.append(COMMITTED)
    log.append(COMMITTED)
    assert [record["seq"] for record in read_events(tmp_path).records] == [1, 2]


def test_an_unreadable_line_is_counted_and_passed(tmp_path: Path) -> None:
    """A broken line hides itself and nothing else."""
    write(tmp_path, STARTED)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write("not json\n[1]\n")
    write(tmp_path, COMMITTED)
    batch = read_events(tmp_path)
    assert ([record["seq"] for record in batch.records], batch.unreadable) == ([1, 2], 2)


def test_status_is_written_at_most_twice_a_second(tmp_path: Path) -> None:
    """Many updates are one write, the newest is never lost, and no part is ever seen."""
    status = StatusFile(tmp_path)
    for number in range(100):
        status.put({"run": "run", "n": number})
    assert json.loads((tmp_path / "status.json").read_text())["n"] == 0
    status.flush()
    assert json.loads((tmp_path / "status.json").read_text())["n"] == 99
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_the_status_is_a_fold_of_the_events(tmp_path: Path) -> None:
    """Rows count the present iteration and scale; calls and money count the whole run."""
    write(tmp_path, STARTED, PhaseStarted("pilot"), IterationStarted(1, {}, 150), COMMITTED)
    write(tmp_path, GateDecided(1, "ITERATE", [], "0001"), IterationStarted(2, {}, 150))
    write(tmp_path, COMMITTED, GateDecided(2, "PROCEED", [], "0002"), PhaseStarted("scale"))
    write(tmp_path, COMMITTED, RunFinished("done", 0))
    status = read_status(tmp_path)
    assert (status["status"], status["phase"], status["iteration"]) == ("done", "scale", 2)
    assert (status["rows"], status["decision"]) == ({"accepted": 6}, "PROCEED")
    assert (status["calls"]["asked"], status["cost_nano"]) == (12, 300)


def test_a_fold_in_parts_is_the_fold_of_the_whole(tmp_path: Path) -> None:
    """A status taken on from an earlier one is the one taken from the beginning."""
    write(tmp_path, STARTED, IterationStarted(1, {}, 150), COMMITTED, COMMITTED)
    records = read_events(tmp_path).records
    part = fold_status("run", records[:3])
    before = json.dumps(part)
    assert fold_status("run", records[3:], part) == fold_status("run", records)
    assert json.dumps(part) == before


def test_a_dead_run_is_not_running(tmp_path: Path) -> None:
    """Without a process that holds it, a run that says it is running was interrupted."""
    write(tmp_path, STARTED)
    assert read_status(tmp_path)["status"] == "interrupted"
    with RunLock.acquire(tmp_path):
        assert read_status(tmp_path)["status"] == "running"
