"""The verifiers: answers that must be right, answers that most samples give, commands that must pass."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nexa_checks import register_checks
from nexa_checks.commands import find_isolation
from nexa_core import UsageError

SPECS = {spec.name: spec for spec in register_checks()}


def build(name: str, **options: Any) -> Any:
    spec = SPECS[name]
    return spec.build(spec.options().model_validate({"field": "response", **options}))


def answer(text: str, wanted: str | float, **options: Any) -> bool | None:
    check = build("answer_equals", column="answer", **options)
    verdict: bool | None = (
        check.score(pa.table({"response": [text], "answer": [wanted]})).failed[0].as_py()
    )
    return None if verdict is None else not verdict


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("She has 3 + 4 = 7 eggs.", "7"),
        ("It costs $1,234.50.", "1234.5"),
        ("so -12", "-12"),
        ("5 - 3 = 2", "2"),
        ("the answer is 18.", "He makes 9 * 2 = <<9*2=18>>18.\n#### 18"),
        ("A: 0.50", 0.5),
        ("1/2", "1/2"),
        ("It is 1/2", "0.5"),
        ("a half: 0.5", "1/2"),
        ("about 1e3", "1000"),
        ("a length of 3.0e-5 m", "0.00003"),
        ("a loss of $-5", "-5"),
        (r"in all 1\,234 or 1{,}234", "1234"),
        ("for case 5", "5"),
    ],
)
def test_the_last_number_is_the_answer(text: str, wanted: Any) -> None:
    """Currency, thousands and closing points are no part of it; the column may hold a solution."""
    assert answer(text, wanted) is True
    assert answer(text.replace("18", "19") + " or 99", wanted) is False


def test_the_answer_is_boxed_or_matched_or_the_whole_text() -> None:
    """The last box counts, with braces in it; the first group of a pattern; the text without case."""
    assert answer(
        r"\boxed{1} no: \boxed{\frac{1}{2}}.", r"\frac{1}{2}", take="boxed", expected="text"
    )
    assert answer("Answer: Blue.\nDone", "blue", take="regex", pattern=r"(?m)Answer: (.+)$")
    assert answer(" Paris. ", "paris", take="text")
    assert answer(r"so \boxed{\dfrac{3}{4}}", "0.75", take="boxed")
    assert answer("no box", "1", take="boxed", expected="text") is False
    with pytest.raises(UsageError, match="does not say what the answer is"):
        build("answer_equals", column="a", take="regex", pattern="Answer")


def test_a_row_without_a_right_answer_gets_no_verdict() -> None:
    """The reason quotes both answers."""
    table = pa.table({"response": ["is 3", "is 3", None], "answer": [None, "4", "4"]})
    found = build("answer_equals", column="answer").score(table)
    assert found.failed.to_pylist() == [None, True, None]
    assert found.reasons.to_pylist()[1] == "answers 3 not 4"


def test_the_answer_that_most_samples_give_is_kept() -> None:
    """Numbers written otherwise are one answer; a sample without an answer never wins."""
    table = pa.table(
        {
            "response": ["is 4", "is 4.0", "is 5", "no", "no", "1", "2", "2"],
            "source_id": ["a", "a", "a", "b", "b", "c", "c", "a"],
        }
    )
    check = build("majority")
    _, found = check.fold(check.start(), table)
    assert found.failed.to_pylist() == [False, False, True, True, True, False, True, True]
    assert found.values.to_pylist() == [0.5, 0.5, 0.25, 0.0, 0.0, 0.5, 0.5, 0.25]
    assert found.reasons.to_pylist()[2:4] == [
        "its answer has 25 % of the samples",
        "gives no answer",
    ]
    strict = build("majority", least=0.6)
    assert strict.fold(None, table)[1].failed.to_pylist() == [True] * 8


def run(code: str, text: str = "x", **options: Any) -> str | None:
    """The reason for which a row fails that `code` tests."""
    command = [sys.executable, "-I", "-S", "-c", code]
    check = build("command", command=command, run_untrusted=True, workers=1, **options)
    reason: str | None = check.score(pa.table({"response": [text]})).reasons[0].as_py()
    return reason


def test_a_command_runs_only_where_it_is_allowed() -> None:
    """What a model wrote is never run by default."""
    with pytest.raises(UsageError, match="nobody said it may"):
        build("command", command=["true"])


def test_a_command_gets_the_text_and_files_of_the_row() -> None:
    """As its input and as files in an empty folder of its own."""
    code = (
        "import sys, os; t = sys.stdin.read(); assert t == open('answer.txt').read() == 'ä'; "
        "assert os.listdir() == ['answer.txt']"
    )
    assert run(code, "ä") is None
    table = pa.table(
        {
            "response": ["def f(): return 2", "def f(): return 3", None],
            "test": ["assert f() == 2"] * 3,
        }
    )
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "exec(open('a.py').read() + chr(10) + open('t.py').read())",
    ]
    files = {"a.py": "response", "t.py": "test"}
    found = build("command", command=command, files=files, run_untrusted=True).score(table)
    assert found.failed.to_pylist() == [False, True, None]
    assert found.reasons[1].as_py() == "the command ended with 1 (AssertionError)"


def test_a_command_knows_nothing_of_its_parents_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys in the environment are not handed on."""
    monkeypatch.setenv("SOME_API_KEY", "secret")
    assert run("import os; assert 'SOME_API_KEY' not in os.environ") is None


@pytest.mark.parametrize("network", [False, True])
def test_a_command_that_does_not_end_is_killed_with_all_it_started(network: bool) -> None:
    """The whole process group goes, and the row fails with the limit as reason."""
    mark = f"nexa-test-{os.getpid()}"
    code = f"import os, time; [os.fork() for _ in range(2)]; _ = '{mark}'; time.sleep(60)"
    start = time.monotonic()
    assert run(code, timeout=0.5, network=network) == "the command ran longer than 0.5 s"
    assert time.monotonic() - start < 5
    time.sleep(0.1)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in read_file(path)]


def read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(1 << 30)",
        "open('big', 'wb').write(bytes(3 << 20))",
        "[open('/dev/null') for _ in range(100)]",
    ],
)
def test_a_command_has_little_memory_disk_and_files(code: str) -> None:
    """Each limit fails the row, not the run."""
    assert run(code, memory_mb=256, file_mb=1) is not None


@pytest.mark.skipif(not find_isolation(), reason="the kernel gives this user no namespaces")
def test_a_command_has_no_network() -> None:
    """Not even to this machine."""
    code = "s = open('/proc/net/dev').read(); assert [n.split(':')[0].strip() for n in s.splitlines()[2:]] == ['lo']"
    assert run(code) is None
    connect = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9))"
    )
    assert "unreachable" in (run(connect) or "")


def test_commands_of_rows_run_side_by_side() -> None:
    """Four rows that sleep take little longer than one."""
    if shutil.which("sleep") is None:
        pytest.skip("no `sleep` here")
    check = build("command", command=["sleep", "0.4"], run_untrusted=True, workers=4, network=True)
    start = time.monotonic()
    assert check.score(pa.table({"response": ["x"] * 4})).failed.to_pylist() == [False] * 4
    assert time.monotonic() - start < 1.4
