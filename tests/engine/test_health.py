"""The gate over a training's log: losses that are no numbers, losses that jump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_core.engine.health import assess_training, describe_illness
from nexa_core.plugins import load_plugins

CALM = [3.0 - 0.02 * step + 0.05 * (step % 3) for step in range(60)]


def assess(folder: Path, losses: list[float]) -> str | None:
    lines = [json.dumps({"step": n, "loss": loss}) for n, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps({"step": 60, "done": 1})]))
    return describe_illness(assess_training(load_plugins(), folder))


def test_a_loss_that_falls_is_healthy(tmp_path: Path) -> None:
    """Noise is no spike."""
    assert assess(tmp_path, CALM) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_told(tmp_path: Path, bad: float) -> None:
    """One step is enough."""
    told = assess(tmp_path, [*CALM[:30], bad, *CALM[30:]])
    assert told is not None and "nonfinite_loss_rate 1 of 61 steps" in told


def test_spikes_are_told(tmp_path: Path) -> None:
    """Four jumps in sixty steps are over the gate's twentieth; one of them is not."""
    jumps = [x * 3 if n in (20, 32, 44, 56) else x for n, x in enumerate(CALM)]
    told = assess(tmp_path, jumps)
    assert told is not None and "loss_spike_rate 4 of 55 steps" in told
    assert assess(tmp_path, [x * 3 if n == 40 else x for n, x in enumerate(CALM)]) is None


def test_no_log_says_nothing(tmp_path: Path) -> None:
    """A trainer that keeps no log is not accused."""
    assert assess_training(load_plugins(), tmp_path) == ()
