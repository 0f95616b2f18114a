"""Every way a command can fail: what is said, where, with which exit code, and never a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexa_core.cli.diagnostics import Boundary, redact
from nexa_core.errors import (
    BudgetError,
    NexaError,
    PipelineFileError,
    Place,
    PluginError,
    StepError,
    StoreError,
)

NEXA = [sys.executable, "-m", "nexa_core"]


def settle(error: BaseException, *arguments: str) -> int:
    """The exit code that a boundary gives an exception."""
    with Boundary(arguments) as boundary:
        raise error
    return boundary.exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineFileError("no"), 2),
        (PluginError("no"), 3),
        (StepError("no"), 4),
        (StoreError("no"), 5),
        (BudgetError("no"), 6),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 5),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 5),
        (ValueError("surprise"), 70),
        (NexaError("nothing narrower fits"), 70),
    ],
)
def test_each_kind_of_error_has_its_code(error, code, capsys):
    """The class of an error decides the exit code; stdout stays empty and no traceback is shown."""
    assert settle(error) == code
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err


def test_an_error_is_what_why_fix_and_place(capsys):
    """What was asked and why not, what would work, and file:line: a line each."""
    settle(
        PipelineFileError("'opnai' is no provider.", "Did you mean 'openai'?", Place("p.yaml", 6))
    )
    assert capsys.readouterr().err.splitlines() == [
        "error  'opnai' is no provider.",
        "       Did you mean 'openai'?",
        "       p.yaml:6",
    ]


def test_with_json_an_error_is_one_object_on_stdout(capsys):
    """`--json` makes errors data: one object, with the exit code in it."""
    settle(PipelineFileError("No.", "Yes.", Place("p.yaml", 6)), "--json")
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": "PipelineFileError",
        "message": "No.",
        "fix": "Yes.",
        "file": "p.yaml",
        "line": 6,
        "exit_code": 2,
    }
    assert err == ""


def test_a_bug_says_so_and_keeps_its_traceback_in_a_file(capsys, tmp_path, monkeypatch):
    """An unforeseen exception is called a bug; the note lies in a file for its owner only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settle(ZeroDivisionError("surprise"))
    (note,) = tmp_path.glob("nexa-crash-*.txt")
    assert "ZeroDivisionError: surprise" in note.read_text()
    assert note.stat().st_mode & 0o777 == 0o600
    err = capsys.readouterr().err
    assert "This is a bug" in err and str(note) in err


def test_debug_shows_the_traceback(capsys):
    """With --debug the traceback is on stderr, for a user's mistake too."""
    settle(StoreError("no"), "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_secrets_are_named_and_never_shown(capsys, monkeypatch):
    """An error that quotes a key shows the key's name in its place, in JSON too."""
    monkeypatch.setenv("SOME_API_KEY", "sk-canary-123456")
    settle(StepError("401 for https://x/?key=sk-canary-123456"))
    settle(StepError("401 for sk-canary-123456"), "--json")
    out, err = capsys.readouterr()
    assert "canary" not in out + err
    assert "‹SOME_API_KEY›" in out and "‹SOME_API_KEY›" in err
    assert redact("short", {"A_KEY": "short"}) == "short"


def test_an_error_cannot_steer_the_terminal(capsys):
    """Escape sequences in what is quoted are shown, and do nothing."""
    settle(StepError("the model said \x1b]0;owned\x07 and [red]so[/red]"))
    assert "said ‹U+001B›]0;owned‹U+0007› and [red]so[/red]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stauts"], "No such command 'stauts'"),
        (["status", "--jsn"], "Did you mean '--json'"),
        (["run"], "Missing argument 'FILE'"),
        (["schema", "row"], "'row' is not one of 'pipeline', 'gate'"),
        (["status", "--workspace", "/nowhere"], "does not exist"),
    ],
)
def test_a_mistyped_command_is_usage(arguments, said, invoke, workspace):
    """What cannot be read is exit 2, says what is wrong and where help is."""
    done = invoke(*arguments)
    assert done.code == 2
    assert said in done.err and "--help` shows what it takes." in done.err
    assert json.loads(invoke(*arguments, "--json").out)["exit_code"] == 2


def test_what_cannot_be_written_is_no_bug(workspace, invoke):
    """A file where a folder must be is explained."""
    (workspace / "here").write_text("a file")
    done = invoke("init", "here/there")
    assert done.code in (2, 5) and "here" in done.err and "bug" not in done.err


def test_a_reader_that_goes_away_is_no_error(run):
    """`nexa query … | head -1` ends quietly."""
    sql = "select range from range(300000)"
    with subprocess.Popen(
        [*NEXA, "query", sql, "--csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as query:
        query.stdout.readline()
        query.stdout.close()
        assert query.stderr.read() == b""
        assert query.wait() == 141


def wait_until_it_computes(pid: int) -> None:
    """Wait until a process has imported DuckDB."""
    deadline = time.monotonic() + 60
    while "duckdb" not in Path(f"/proc/{pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)


def test_output_in_a_plain_encoding(run):
    """Where stdout cannot carry a character it is written as an escape, not a crash."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*NEXA, "status"], env=environment, capture_output=True)
    assert done.returncode == 0 and b"\\u2192" in done.stdout
