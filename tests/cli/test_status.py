"""What `nexa status`, `nexa runs` and `nexa stop` say of runs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

from nexa_core.store.lock import RunLock


def without_ages(text: str) -> str:
    """The text with ages replaced, which change from day to day."""
    return re.sub(r"\d+ (d|h|min|s) ago", "N d ago", text)


def test_status_on_one_screen(run, invoke, golden):
    """Status shows decisions, the yield as a waterfall in the order of steps, and the money."""
    done = invoke("status")
    assert done.code == 0 and done.err == ""
    golden("status.txt", without_ages(done.out))


def test_status_as_json(run, invoke):
    """The same as one object, with numbers as numbers."""
    found = json.loads(invoke("status", "demo-1", "--json").out)
    assert found["status"] == "done"
    assert found["rows"] == {"accepted": 6, "rejected": 6, "surplus": 1}
    assert list(found["reasons"]) == ["empty", "answers"]
    assert found["decisions"][0]["changes"] == {"respond.sampling.temperature": [1.0, 0.3]}
    assert found["phases"] == {"pilot": 5.1, "scale": 0.8}


def test_status_of_a_run_that_is_not_there(run, invoke):
    """A mistyped run is answered with the near one, and no traceback."""
    done = invoke("status", "demo-2")
    assert done.code == 2
    assert done.err.splitlines() == [
        "error  No run is called 'demo-2'. Known: demo-1.",
        "       Did you mean 'demo-1'?",
    ]


def test_a_run_that_died_was_interrupted(run, invoke):
    """A run that nobody works on and that never finished counts as interrupted."""
    lines = run.events_path.read_text().splitlines(keepends=True)
    run.events_path.write_text("".join(lines[:-1]))
    assert json.loads(invoke("status", "--json").out)["status"] == "interrupted"


def test_status_survives_a_torn_log(run, invoke):
    """A log that ends in half a line, with rubbish before it, still tells the rest."""
    with run.events_path.open("a") as log:
        log.write('rubbish\n{"event": "RunFin')
    assert json.loads(invoke("status", "--json").out)["status"] == "done"


def test_runs_are_listed_newest_first(run, invoke, golden):
    """The list shows what each run came to."""
    golden("runs-list.txt", without_ages(invoke("runs", "list").out))


def test_removing_asks_first(run, invoke, monkeypatch):
    """Without --yes a person is asked, on stderr; no answer means no."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = invoke("runs", "rm", "latest")
    assert done.code == 130 and done.out == "" and run.path.exists()
    assert invoke("runs", "rm", "latest", "--yes").out == "Removed demo-1.\n"
    assert not run.path.exists()


def test_a_run_at_work_is_not_removed(run, invoke):
    """A run that a process holds is refused, by name of the process, and stays."""
    with RunLock.acquire(run.path):
        done = invoke("runs", "rm", "demo-1", "--yes")
    assert done.code == 5 and str(os.getpid()) in done.err
    assert run.path.exists()


def test_stop_reaches_the_process(run, invoke):
    """`nexa stop` ends the process that holds the run, by SIGTERM."""
    script = (
        "import sys, time; from pathlib import Path; from nexa_core.store.lock import RunLock\n"
        "with RunLock.acquire(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        found = json.loads(invoke("stop", "latest", "--json").out)
        assert found == {"run": "demo-1", "pid": holder.pid}
        assert holder.wait(10) == -15
    assert "Nothing to stop" in invoke("stop").out
