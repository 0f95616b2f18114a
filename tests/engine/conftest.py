"""A real workspace in a temporary folder, with a plugin of its own that brings a scripted model."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa_core.actions import reviewing, running
from nexa_core.engine.campaign import PHASES, Outcome
from nexa_core.pipeline import pipeline_from
from nexa_core.plugins import load_plugins
from nexa_core.store.runs import open_run
from nexa_core.testing.chaos import ChaosServer, serve_in_thread
from nexa_core.workspace import Workspace, find_workspace

PLUGIN = """
import os
from pathlib import Path
from nexa_core import hookimpl, ModelSpec, ReviewerSpec, Opinion
from nexa_core.testing.models import ScriptedModel, echo_words

LOG = Path(__file__).parent.parent / "asked.log"

def answer(request):
    with LOG.open("a") as log:
        log.write(request.id + "\\n")
    prompt = str(request.prompt)
    if "broken" in prompt:
        return RuntimeError("the server says no")
    if request.sampling.get("temperature", 1.0) > 0.6 and int(request.id, 16) % 3 == 0:
        return echo_words(request) + "\\nNEXT"
    return echo_words(request)

def choose(request):
    good = int(request.id, 16) % 10 != 0
    first = "A) yes" in str(request.prompt)
    return (-0.1, -3.0) if good == first else (-3.0, -0.1)

def build(role):
    batch = 8 if role.reference == "batch" else None
    return ScriptedModel(answer, choose, batch, seconds=float(os.environ.get("SCRIPTED_SECONDS", "0")))

class Cooler:
    async def review(self, evidence, ask):
        old = evidence.parameters.get("answer.sampling.temperature")
        return Opinion("cooler", "too hot", {"answer.sampling.temperature": 0.2} if old != 0.2 else {})

@hookimpl
def register_models():
    return [ModelSpec("scripted", "answers by a script", build=build)]

@hookimpl
def register_reviewers():
    return [ReviewerSpec("cooler", "cools", build=lambda options: Cooler())]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    """A server without faults, at one address for all tests of a module."""
    with serve_in_thread() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A marked workspace that holds the plugin and one prompt."""
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "scripted_plugin.py").write_text(PLUGIN)
    return find_workspace(tmp_path)


@pytest.fixture
def write_rows(workspace: Workspace) -> Callable[..., str]:
    """Writes rows as a JSONL file of the workspace and gives its name."""

    def write(rows: Sequence[Any], name: str = "rows.jsonl") -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (workspace.root / name).write_text("\n".join(lines) + "\n")
        return name

    return write


@pytest.fixture
def answering() -> Callable[..., dict[str, Any]]:
    """Makes a pipeline that asks, criticises and accepts, with sections replaced."""
    return make_pipeline


def make_pipeline(**changes: Any) -> dict[str, Any]:
    """A pipeline of one generate step and one critic; `changes` replace sections."""
    inline = {"text": "Q: {{ question }}\nA:", "stop": ["\n\n"], "delimiters": ["\nNEXT"]}
    pipeline: dict[str, Any] = {
        "nexa": 1,
        "name": "answering",
        "source": {"path": "rows.jsonl"},
        "models": {"m": {"model": "scripted/batch", "api": "completions"}},
        "steps": [
            {
                "generate": {
                    "id": "answer",
                    "model": "m",
                    "prompt": inline,
                    "into": "response",
                    "sampling": {"temperature": 1.0, "max_tokens": 20},
                }
            },
            {"critic": {"id": "good", "model": "m", "prompt": "critic/judge"}},
        ],
        "accept": {"good": {"at_least": 0.5}},
        "pilot": {"rows": 20, "max_iterations": 3},
    }
    pipeline.update(changes)
    return {key: value for key, value in pipeline.items() if value is not None}


@pytest.fixture
def run(workspace: Workspace) -> Callable[..., Outcome]:
    """Runs a pipeline given as Python values in the workspace."""
    prompts = workspace.root / "prompts" / "critic"
    prompts.mkdir(parents=True)
    front = "name: critic/judge\nversion: 1\napi: completions\ninputs: [response]\npositive: 'yes'\nnegative: 'no'"
    body = "{{ response }}\nA) {{ a }}\nB) {{ b }}\nAnswer:"
    (prompts / "judge.md").write_text(f"---\n{front}\n---\n{body}\n")

    def start(
        pipeline: dict[str, Any],
        run_id: str | None = None,
        phases: Sequence[str] = PHASES,
        **settings: Any,
    ) -> Outcome:
        plugins = load_plugins(workspace, announce=lambda text: None)
        return running.start(
            pipeline_from(pipeline), workspace, plugins, run_id, phases, **settings
        )

    return start


GATE = textwrap.dedent("""\
    gate: strict
    confidence: 0.95
    hard:
      - {metric: runaway_rate, below: 0.2}
      - {metric: acceptance_rate, at_least: 0.5}
      - {metric: failed_rate, below: 0.3}
    extend: {max_rows: 200}
    reviewers: [cooler]
""")


@pytest.fixture
def strict_gate(workspace: Workspace) -> str:
    """A gate in the workspace that a hot model fails and a cool one passes."""
    (workspace.root / "gates").mkdir()
    (workspace.root / "gates" / "strict.yaml").write_text(GATE)
    return "strict"


@pytest.fixture
def decisions(workspace: Workspace) -> Callable[[str], list[tuple[str, str, bool]]]:
    """The gate, the decision, and whether it waits, of every record of a run."""

    def show(run: str) -> list[tuple[str, str, bool]]:
        found = reviewing.gate_show(run, workspace=workspace)
        return [(review.gate_name, review.decision, review.waiting) for review in found]

    return show


@pytest.fixture
def resume(workspace: Workspace) -> Callable[[str], Outcome]:
    """Takes a run up again."""

    def go_on(run: str) -> Outcome:
        plugins = load_plugins(workspace, announce=lambda text: None)
        return running.resume(open_run(workspace.artifacts_path, run), workspace, plugins)

    return go_on
