"""`nexa init` makes a workspace; `nexa doctor` says what a machine has and what it lacks for what."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

PIPELINE = """\
nexa: 1
name: asks
source: {{path: rows.jsonl}}
models:
  there: {{model: openai/x, base_url: "{there}", api_key_env: MY_API_KEY}}
  gone: {{model: openai/x, base_url: "{gone}", api_key_env: OTHER_API_KEY}}
steps:
  - generate: {{id: a, model: there, prompt: {{user: hi}}}}
  - generate: {{id: b, model: gone, prompt: {{user: hi}}, into: second}}
"""


@pytest.fixture
def server():
    """A server on this machine that answers 404 to everything; it records the headers it saw."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            seen.append(dict(self.headers))
            self.send_error(404)

        def log_message(self, *_):
            """Silence."""

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/v1", seen
        made.shutdown()


def findings(invoke) -> dict[tuple[str, str], dict]:
    """What the doctor found, by topic and name."""
    done = invoke("doctor", "--json")
    return {(one["topic"], one["name"]): one for one in json.loads(done.out)["findings"]}


def test_init_creates_and_says_what_next(tmp_path, invoke, monkeypatch):
    """A new workspace holds the shipped files; the next command is named."""
    monkeypatch.chdir(tmp_path)
    done = invoke("init", "mine")
    assert done.code == 0 and "Next  cd mine && nexa demo" in done.out
    assert (tmp_path / "mine/gates/pilot_qc.yaml").is_file()


def test_init_keeps_what_is_there(tmp_path, invoke, monkeypatch):
    """A second init overwrites nothing and says so."""
    monkeypatch.chdir(tmp_path)
    invoke("init")
    (tmp_path / "gates/pilot_qc.yaml").write_text("mine")
    found = json.loads(invoke("init", "--json").out)
    assert found["created"] == [] and "gates/pilot_qc.yaml" in found["kept"]
    assert (tmp_path / "gates/pilot_qc.yaml").read_text() == "mine"


def test_doctor_finds_what_the_machine_has(workspace, invoke):
    """Python, cores, memory, disk and GPU are always reported."""
    found = findings(invoke)
    for name in ("Python", "processor", "memory", "disk", "GPU", "workspace"):
        assert found["machine", name]["detail"]
    assert found["machine", "workspace"]["level"] == "ok"


def test_endpoints_that_answer_and_those_that_do_not(workspace, invoke, server):
    """Every endpoint of the workspace's pipelines is asked; a refusal is an answer; no key is sent."""
    there, seen = server
    gone = "http://127.0.0.1:9/v1"
    (workspace / "pipelines").mkdir()
    (workspace / "pipelines/asks.yaml").write_text(PIPELINE.format(there=there, gone=gone))
    (workspace / ".env").write_text("MY_API_KEY=sk-canary-in-file\n")
    done = invoke("doctor", "--json")
    found = {(one["topic"], one["name"]): one for one in json.loads(done.out)["findings"]}
    assert found["endpoints", there]["level"] == "ok"
    assert (
        found["endpoints", gone]["level"] == "missing"
        and found["endpoints", gone]["enables"] == "asks.gone"
    )
    assert found["keys", "MY_API_KEY"]["detail"] == "set in .env"
    assert found["keys", "OTHER_API_KEY"]["level"] == "missing"
    assert "canary" not in done.out and "canary" not in str(seen) and "MY_API_KEY" not in os.environ


def test_a_pipeline_that_does_not_read_is_a_problem(workspace, invoke):
    """A broken pipeline of the workspace is named with its line, and the exit code is 2."""
    (workspace / "pipelines").mkdir()
    (workspace / "pipelines/bad.yaml").write_text("nexa: 1\nname: bad\nstepps: []\n")
    done = invoke("doctor", "--json")
    (found,) = [one for one in json.loads(done.out)["findings"] if one["topic"] == "pipelines"]
    assert found["level"] == "problem" and "bad.yaml:" in found["detail"]
    assert done.code == 2


def test_another_program_called_nexa(workspace, invoke, monkeypatch):
    """Where the first `nexa` on PATH is another vendor's, the doctor says what to type instead."""
    other = workspace / "bin" / "nexa"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho other\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    found = findings(invoke)["command", "nexa"]
    assert found["level"] == "problem" and "nexa-core" in found["fix"]


def test_a_missing_extra_says_what_it_would_enable(workspace, invoke, monkeypatch):
    """What is not installed is named with its size, what needs it, and the line that installs it."""
    from nexa_core.actions import setting_up

    monkeypatch.setattr(setting_up, "_is_importable", lambda module: False)
    found = findings(invoke)["extras", "local"]
    assert found["level"] == "missing" and "torch (" in found["detail"]
    assert "model provider local" in found["enables"]
    assert found["fix"].startswith("pip install 'nexa-core[local]'")


def test_the_doctor_reads_well(workspace, invoke):
    """For a person: topics, marks, and a line that sums up."""
    out = invoke("doctor").out
    assert out.lstrip().startswith("Machine\n")
    assert out.splitlines()[-1].strip()


def test_plugins_are_listed_with_what_they_offer(workspace, invoke):
    """Each plugin stands with its distribution and the names it provides."""
    (workspace / "plugins").mkdir()
    (workspace / "plugins/broken_one.py").write_text("raise RuntimeError('on purpose')\n")
    done = invoke("plugins", "list", "--json")
    by_name = {one["name"]: one for one in json.loads(done.out)["plugins"]}
    assert "runaway" in by_name["nexa_checks"]["specs"]["checks"]
    assert "on purpose" in by_name["broken_one"]["error"]
    assert "broken_one" in done.err  # the notice that code of the workspace is loaded
    assert Path("plugins/broken_one.py").is_file()


def test_no_workspace_plugins(workspace, invoke):
    """With --no-workspace-plugins no code of the workspace runs."""
    (workspace / "plugins").mkdir()
    (workspace / "plugins/mark.py").write_text("from pathlib import Path; Path('ran').touch()\n")
    assert invoke("plugins", "list", "--no-workspace-plugins").err == ""
    assert not (workspace / "ran").exists()
