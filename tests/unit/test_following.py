"""A run followed from its files: what its log says, how its gate stands, whether its process lives."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest

from nexa_core.actions.following import LINES_AT_ONCE, Follower
from nexa_core.actions.gauging import POINTS, read_gauges
from nexa_core.events import CallsProgressed, PhaseStarted, RunFinished, RunStarted, ShardCommitted
from nexa_core.gates import Gate, Rule
from nexa_core.stats import bounds
from nexa_core.store.events import EventLog
from nexa_core.store.lock import RunLock
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import create_run

GATE = Gate("g", (Rule("runaway_rate", "below", 0.05),))


@pytest.fixture
def run(tmp_path):
    """A run with a gate and nothing done."""
    pipeline = {"steps": [], "pilot": {"max_iterations": 5}, "scale": {"accepted": 9}}
    return create_run(tmp_path, "r", "r", {"pipeline": pipeline, "gate": GATE.as_json()})


def write(run, *events):
    log = EventLog.open(run.path)
    for event in events:
        log.append(event)
    log.close()


def catch_up(run):
    follower = Follower(run.path)
    assert sum(follower.catch_up()) >= 0
    return follower


def test_what_the_log_gains_is_taken_in(run):
    """Once caught up, each look brings what is new and nothing twice; a torn line waits."""
    write(run, RunStarted("r", "p", "h", 0), PhaseStarted("scale"))
    follower = catch_up(run)
    write(run, ShardCommitted("scale/00000", {"accepted": 5}, {"asked": 5}, 10, 0.1))
    assert follower.take(follower.fetch()) and follower.progress.accepted == 5
    with run.events_path.open("a") as file:
        file.write('{"event": "ShardCommitted"')
    assert not follower.take(follower.fetch())
    assert follower.progress.accepted == 5


def test_a_long_log_is_shown_by_its_status_until_it_is_read(run):
    """The first look is true at once: what status.json says; the log takes its place when it is read."""
    write(run, RunStarted("r", "p", "h", 0), PhaseStarted("scale"))
    commits = [
        ShardCommitted(f"scale/{n:05d}", {"accepted": 1}, {"asked": 1}, 0, 0.1) for n in range(50)
    ]
    write(run, *commits)
    progress = CallsProgressed(1, 2, 3, {}, 4, 0, 0)
    line = json.dumps({**asdict(progress), "event": "CallsProgressed", "at": None, "seq": 1})
    with run.events_path.open("a") as file:
        file.write(f"{line}\n" * (2 * LINES_AT_ONCE))
    follower = Follower(run.path)
    steps = follower.catch_up()
    next(steps)
    assert follower.progress.accepted == 50 and follower.progress.phase.name == "scale"
    assert not follower.caught_up
    assert sum(steps) > LINES_AT_ONCE and follower.progress.live["answered"] == 3


def test_a_run_made_again_under_its_name_is_followed_from_its_start(run):
    """What the first one had is forgotten."""
    write(run, RunStarted("r", "p", "h", 0), RunFinished("done", 0))
    follower = catch_up(run)
    record = run.record_path.read_bytes()
    shutil.copytree(run.path, run.path.with_name("kept"))
    run.events_path.unlink()
    run.record_path.write_bytes(record)
    write(run, RunStarted("r", "p", "h", 0))
    assert follower.take(follower.fetch())
    assert follower.progress.status != "done"


def test_a_run_whose_process_died_is_interrupted(run, monkeypatch):
    """The log says running; nobody holds the run's lock."""
    monkeypatch.setattr("nexa_core.actions.following._OWNER_SECONDS", 0.0)
    write(run, RunStarted("r", "p", "h", 0))
    follower = catch_up(run)
    with RunLock.acquire(run.path):
        assert follower.status == "running"
    assert follower.status == "interrupted"


def commit(run, unit, shard, n, k):
    tally = {"runaway_rate": {"n": n, "k": k}}
    folder = (run.scale if unit == "scale" else run.iteration(1)).create()
    entry = ShardEntry(
        folder.unit(shard), shard, {"accepted": n}, {}, "", metrics=tally, source_rows=n
    )
    append_entry(folder.path, entry)


def test_the_gate_is_measured_on_what_is_committed(run):
    """Value, bounds and rows to a decision are those of the sequential test at this moment."""
    commit(run, "pilot", 0, 50, 1)
    commit(run, "pilot", 1, 50, 0)
    found = read_gauges(run.path, 1)
    gauge = found.gauges[0]
    assert (gauge.check.k, gauge.check.n, found.rows, found.cap) == (1, 100, 100, 600)
    assert (gauge.check.lower, gauge.check.upper) == bounds(1, 100, 0.01)
    assert [(p.rows, p.value) for p in gauge.track] == [(50, 0.02), (100, 0.01)]
    assert gauge.check.rows_needed == 66


def test_scale_goes_on_from_the_pilot_and_thousands_of_shards_are_thinned(run):
    """The pilot's rows are scale's first; the way is drawn in few points, the last of them now."""
    commit(run, "pilot", 0, 100, 0)
    for shard in range(300):
        commit(run, "scale", shard, 10, 0)
    found = read_gauges(run.path, 1, in_scale=True)
    track = found.gauges[0].track
    assert found.unit == "scale" and found.rows == 3_100
    assert len(track) <= POINTS + 1 and track[-1].rows == 3_100


def test_there_is_nothing_to_measure_without_rows_or_gate(run, tmp_path):
    """Before the first shard, and in a run without a gate."""
    other = create_run(tmp_path, "o", "o", {"pipeline": {"steps": []}, "gate": None})
    assert read_gauges(run.path, 1).gauges == () and read_gauges(other.path, 1).gauges == ()


def test_only_what_can_go_on_is_taken_up(run, tmp_path):
    """A run that is done, or that a process works on, is refused with a reason."""
    from nexa_core.actions.continuing import continue_run
    from nexa_core.errors import RunLockedError, UsageError
    from nexa_core.store.events import read_events
    from nexa_core.store.status import StatusFile, fold_status
    from nexa_core.workspace import Workspace, find_workspace

    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    (tmp_path / "artifacts").mkdir()
    run.path.rename(tmp_path / "artifacts" / "r")
    moved = type(run)(tmp_path / "artifacts" / "r")
    write(moved, RunStarted("r", "p", "h", 0), RunFinished("done", 0))
    status = StatusFile(moved.path)
    status.put(fold_status("r", read_events(moved.path).records))
    status.flush()
    workspace: Workspace = find_workspace(tmp_path)
    with pytest.raises(UsageError, match="is done"):
        continue_run("r", workspace=workspace)
    with RunLock.acquire(moved.path), pytest.raises(RunLockedError, match="under way"):
        continue_run("r", workspace=workspace)
    assert not (moved.path / "resume.log").exists()
