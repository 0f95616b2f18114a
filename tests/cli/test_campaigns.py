"""Runs from the command line, on pipelines that ask no model: exit codes, JSON, lines, interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NEXA = [sys.executable, "-m", "nexa_core"]
PIPELINE = """\
nexa: 1
name: look
source: {path: rows.jsonl, id: id}
steps:
  - check: [empty]
pilot: {rows: all, max_iterations: 1}
gate: {gate: mine, hard: [{metric: empty_rate, below: 0.05}], reviewers: []}
"""


@pytest.fixture
def pipeline(workspace: Path) -> Path:
    """A pipeline over 40 rows of which none is empty."""
    write_rows(workspace / "rows.jsonl", 40, empty=0)
    (workspace / "look.yaml").write_text(PIPELINE)
    return workspace / "look.yaml"


SLOW = """\
import time
from nexa_core import CheckSpec, ScoreColumns, hookimpl

class Slow:
    def score(self, table):
        import pyarrow as pa
        time.sleep(0.1)
        return ScoreColumns(pa.nulls(len(table), pa.float64()), pa.array([False] * len(table)))

@hookimpl
def register_checks():
    return [CheckSpec("slow", "Takes its time.", lambda options: Slow())]
"""


def write_rows(path: Path, count: int, empty: int) -> None:
    """Rows with an answer; the first `empty` have none."""
    rows = ({"id": n, "response": "" if n < empty else f"answer {n}"} for n in range(count))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_proceed_is_exit_0(pipeline, invoke):
    """One object on stdout, lines on stderr, a run in artifacts."""
    done = invoke("run", "look.yaml", "--run-id", "one", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and found["status"] == "done" and found["run"] == "one"
    assert found["rows"]["accepted"] == 40 and found["iterations"][0]["decision"] == "PROCEED"
    assert "run one started: pipeline look, seed 0" in done.err
    assert Path("artifacts/one/run.json").is_file()


def test_stop_is_exit_1(pipeline, workspace, invoke):
    """A gate that says no ends with 1, with the reason and what to type next."""
    write_rows(workspace / "rows.jsonl", 40, empty=10)
    done = invoke("run", "look.yaml", "--run-id", "one")
    assert done.code == 1
    assert "one was stopped by its gate" in done.out and "10/40  25.0 %" in done.out
    assert done.out.splitlines()[-1] == "Next  nexa gate show one"


def test_everything_reads_a_run_that_was_made(pipeline, invoke):
    """Status, gate, accept and query agree about one run."""
    invoke("run", "look.yaml")
    assert json.loads(invoke("status", "--json").out)["rows"] == {"accepted": 40}
    assert json.loads(invoke("gate", "show", "--json").out)[0]["decision"] == "PROCEED"
    assert json.loads(invoke("gate", "replay", "--json").out)["differences"] == []
    assert json.loads(invoke("accept", "--json").out)["rows_after"] == {"accepted": 40}
    assert json.loads(invoke("query", "select count(*) from rows", "--json").out)["rows"] == [[40]]
    assert "1 decision, every one as recorded." in invoke("gate", "replay").out
    assert "empty_rate" in invoke("gate", "show").out
    assert Path(invoke("report").out.strip()).name == "report.html"


def test_the_same_run_id_resumes(pipeline, invoke):
    """A run that is done is taken up again and stays as it is; another pipeline is refused."""
    first = json.loads(invoke("run", "look.yaml", "--run-id", "one", "--json").out)
    again = json.loads(invoke("run", "look.yaml", "--run-id", "one", "--json").out)
    assert again["rows"] == first["rows"] and again["iterations"] == first["iterations"]
    refused = invoke("run", "look.yaml", "--run-id", "one", "--set", "seed=1", "--json")
    assert refused.code == 2 and json.loads(refused.out)["exit_code"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name: look", "name: look\nstepps: []"), ["stepps", "steps", "look.yaml:3"]),
        (("check: [empty]", "check: [emtpy]"), ["emtpy", "empty", "look.yaml:5"]),
        (("rows.jsonl", "rowz.jsonl"), ["rowz.jsonl"]),
    ],
)
def test_a_mistake_in_the_file_has_its_line(pipeline, invoke, change, said):
    """The wrong word, what would work, and the line; before anything is made."""
    pipeline.write_text(PIPELINE.replace(*change))
    for command in ("validate", "run"):
        done = invoke(command, "look.yaml")
        assert done.code == 2 and "Traceback" not in done.err
        assert all(word in done.err for word in said), done.err
    assert not list(Path("artifacts").glob("*/run.json"))


def test_validate_shows_the_plan(pipeline, invoke):
    """What is valid is said with its steps and what the pilot takes."""
    done = invoke("validate", "look.yaml")
    assert done.code == 0 and "look  valid" in done.out
    assert "every row, once: decided on the values themselves" in done.out
    assert json.loads(invoke("validate", "look.yaml", "--json").out)["steps"] == ["empty"]


def test_preview_shows_rows_and_decisions(pipeline, invoke):
    """A few rows, each with its columns, scores and what became of it; nothing is stored."""
    done = invoke("preview", "look.yaml", "-n", "2")
    assert "Row 2" in done.out and "answer 1" in done.out and "accepted" in done.out
    assert len(json.loads(invoke("preview", "look.yaml", "-n", "2", "--json").out)) == 2
    assert not list(Path("artifacts").glob("*/run.json"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_an_interrupted_run_goes_on(pipeline, workspace, invoke, number, code):
    """A signal brings the run to a safe end and its own exit code; resume loses and doubles nothing."""
    write_rows(workspace / "rows.jsonl", 500, empty=0)
    (workspace / "plugins").mkdir()
    (workspace / "plugins/slow.py").write_text(SLOW)
    pipeline.write_text(
        PIPELINE.replace("[empty]", "[empty, slow]").replace(
            "rows: all", "rows: all, shard_rows: 50"
        )
    )
    command = [*NEXA, "run", "look.yaml", "--run-id", "one", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        wait_for(workspace / "artifacts/one/iterations/01/manifest.jsonl")
        run.send_signal(number)
        out, _ = run.communicate(timeout=120)
    assert run.returncode == code and json.loads(out)["status"] == "interrupted"
    left = json.loads(invoke("status", "--json").out)
    assert left["status"] == "interrupted" and 0 < left["rows"]["accepted"] < 500
    resumed = json.loads(invoke("resume", "--json").out)
    assert resumed["status"] == "done" and resumed["rows"]["accepted"] == 500
    counted = invoke("query", "select count(*), count(distinct source_id) from rows", "--json")
    assert json.loads(counted.out)["rows"] == [[500, 500]]


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_compare_two_columns_of_one_file(workspace, invoke):
    """A paired comparison from the command line, as JSON and as a table."""
    rows = [{"id": n, "x": n % 2 == 0, "y": n % 2 == 0 or n < 10} for n in range(40)]
    Path("p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = json.loads(
        invoke("compare", "p.jsonl", "--a-field", "x", "--b-field", "y", "--json").out
    )
    assert (found["n"], found["b"], found["c"]) == (40, 0, 5)
    done = invoke("compare", "p.jsonl", "--a-field", "x", "--b-field", "y")
    assert "right in B only" in done.out and "+12.5 points" in done.out


def test_validate_shows_everything_of_a_gate_that_decides(invoke, pipeline):
    """Rows with the smoke, the error, reviewers, and also the rules for which no rows are planned."""
    check = "steps=[{check: [empty, {runaway: {delimiters: ['##']}}]}]"
    sets = [
        check,
        "pilot={rows: auto, smoke: 10}",
        "gate={extends: pilot_qc, reviewers: [policy, human]}",
    ]
    sets.append("gate.soft=[{metric: duplicate_rate, below: 0.1}]")
    given = ["validate", "look.yaml", *(part for one in sets for part in ("--set", one))]
    told = invoke(*given).out
    for said in (
        "10 as a smoke that a FAIL ends, then 113; at most 600",
        "95 % over up to 5 iterations: 1 % error each",
        "policy → human",
        "delimiter_leakage exactly 0 (as counted",
        "duplicate_rate below 10 % (reported",
    ):
        assert said in told
    pilot = json.loads(invoke(*given, "--json").out)["pilot"]
    assert pilot["smoke"] == 10 and pilot["observed"][0]["metric"] == "delimiter_leakage"
