"""The forms a chaos server comes in: thread, process, command line; and that importing it is light."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from nexa_core.testing.chaos import Faults, Settings, serve_in_process, serve_in_thread


def ask(url: str, prompt: str = "Hello") -> str:
    data = json.dumps({"model": "m", "prompt": prompt}).encode()
    with urllib.request.urlopen(f"{url}/completions", data, timeout=10) as reply:
        text: str = json.load(reply)["choices"][0]["text"]
        return text


def test_a_thread_serves_code_that_is_not_asynchronous() -> None:
    """Asked from the same process, changed while it runs."""
    with serve_in_thread() as server:
        assert ask(server.url)
        server.faults = "storm"
        assert server.faults == Faults.storm()
        with pytest.raises(ValueError, match="seed"):
            server.change(seed=4)
        assert server.stats.requests == 1


def test_a_process_is_controlled_from_outside(tmp_path: Path) -> None:
    """Stats, changes and the log come over HTTP; the log file is whole when it has ended."""
    path = tmp_path / "log.jsonl"
    with serve_in_process(Settings(seed=1, log_path=path)) as server:
        assert ask(server.url)
        stats = server.change(faults={"error_500": 1.0}, capacity=3)
        assert (stats.requests, stats.statuses) == (1, {"200": 1})
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server.url)
        refused.value.close()
        with pytest.raises(ValueError, match="no_such"):
            server.change(no_such=1)
        assert [entry.status for entry in server.log] == [200, 500]
    assert len(path.read_text().splitlines()) == 2


def test_a_process_keeps_its_log_where_no_file_is_named() -> None:
    """The entries come over HTTP then."""
    with serve_in_process() as server:
        text = ask(server.url)
        assert [entry.completion_tokens for entry in server.log] == [-(-len(text) // 4)]


def test_the_command_line_prints_its_url(tmp_path: Path) -> None:
    """One JSON line, then it serves until it is told to end."""
    command = [sys.executable, "-m", "nexa_core.testing.chaos", "--concurrent", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert ask(told["url"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_importing_it_loads_no_library() -> None:
    """A test suite that imports the fakes does not pay for an HTTP library or Arrow."""
    code = "import nexa_core.testing.chaos, sys; print({'aiohttp', 'pyarrow', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
