"""The health of a training decides: a sick one is on record, and is not evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from nexa_core.actions import reviewing
from nexa_core.actions.signing import sign
from nexa_core.workspace import Workspace

TRAINER = """
import json
from pydantic import BaseModel
from nexa_core import Training, TrainerSpec, hookimpl

class Options(BaseModel):
    model: str
    seed: int = 0
    losses: list[str] = []

class Scripted:
    def __init__(self, options):
        self.options = options

    def preflight(self, chat):
        return []

    def train(self, dataset, out, on_event, resume=False):
        lines = [json.dumps({"step": i, "loss": float(x)}) for i, x in enumerate(self.options.losses)]
        (out / "metrics.jsonl").write_text("\\n".join(lines))
        (out / "adapter").mkdir(exist_ok=True)
        return Training(out / "adapter", 0.5, len(lines), 10, 100, 0.1, {})

@hookimpl
def register_trainers():
    return [TrainerSpec("scripted", "writes a log", build=Scripted, options=lambda: Options)]
"""


@pytest.fixture
def trained(workspace: Workspace, write_rows: Any, answering: Any) -> dict[str, Any]:
    """Thirty collected rows, packaged, then trained on by a trainer that writes a given log."""
    (workspace.root / "plugins" / "scripted_trainer.py").write_text(TRAINER)
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(30)])
    return answering(
        pilot=None,
        scale={"rows": "all"},
        package={"format": "prompt-completion", "prompt": "question"},
        train={"method": "scripted", "model": "local/nexa-tiny", "losses": ["2", "1.5", "1.2"]},
    )


def test_a_healthy_training_is_on_record(
    run: Any, trained: dict[str, Any], workspace: Workspace, decisions: Any
) -> None:
    """Its log is a census, and the decision replays."""
    assert run(trained, "healthy").status == "done"
    assert decisions("healthy")[-1] == ("training_health", "PROCEED", False)
    assert not reviewing.gate_replay("healthy", workspace=workspace)["differences"]


def test_a_loss_that_is_no_number_ends_the_run_until_signed(
    run: Any, trained: dict[str, Any], workspace: Workspace, decisions: Any, resume: Any
) -> None:
    """Exit 1 with what was seen; who signs takes the adapter as it is."""
    trained["train"]["losses"] = ["2", "nan", "1.2"]
    outcome = run(trained, "sick")
    assert (outcome.status, outcome.exit_code) == ("stopped", 1)
    assert "nonfinite_loss_rate 1 of 3 steps" in outcome.reason
    assert decisions("sick")[-1] == ("training_health", "STOP", False)
    sign("sick", "PROCEED", "one bad step", workspace=workspace, signer="ada")
    assert resume("sick").status == "done"
