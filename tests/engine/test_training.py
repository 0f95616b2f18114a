"""Training as the engine sees it: done once, taken up again, stopped, blamed on the trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nexa_core.engine.context import RunInterrupted
from nexa_core.engine.training import Order, train_dataset
from nexa_core.errors import TrainerError, UsageError
from nexa_core.events import Event, TrainingProgressed
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.workspace import find_workspace

PLUGIN = """
import json
from pydantic import BaseModel
from nexa_core import Training, TrainingProgressed, TrainerSpec, hookimpl

class Options(BaseModel):
    model: str
    seed: int = 0
    fail: bool = False

class Stub:
    def __init__(self, options):
        self.options = options

    def preflight(self, chat):
        return ["it is a stub"] if chat else []

    def train(self, dataset, out, on_event, resume=False):
        with (out / "calls.jsonl").open("a") as file:
            file.write(json.dumps({"resume": resume, "seed": self.options.seed}) + "\\n")
        on_event(TrainingProgressed(0, 2, {}))
        on_event(TrainingProgressed(1, 2, {"loss": 2.0}))
        if self.options.fail:
            raise ValueError("the loss is no number")
        (out / "adapter").mkdir(exist_ok=True)
        return Training(out / "adapter", 0.5, 2, 10, 100, 0.1, {"why": "test"})

@hookimpl
def register_trainers():
    return [TrainerSpec("stub", "trains nothing", build=Stub, options=lambda: Options)]
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    """A workspace with a trainer of its own."""
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stub_trainer.py").write_text(PLUGIN)
    return load_plugins(find_workspace(tmp_path), announce=lambda text: None)


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    """Makes an order for a dataset that says what was packaged."""

    def make(inputs: str = "a", **options: Any) -> Order:
        dataset = tmp_path / "dataset"
        dataset.mkdir(exist_ok=True)
        manifest = {"inputs": inputs, "files": {}, "prompt_template": "{{ prompt }}\n"}
        (dataset / "manifest.json").write_text(json.dumps({**manifest, "chat": False, "marks": []}))
        return Order(dataset, tmp_path / "out", "stub", {"model": "local/x", **options}, seed=7)

    return make


def calls(order: Order) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (order.out / "calls.jsonl").read_text().splitlines()]


def test_a_training_is_done_once(plugins: Plugins, order: Callable[..., Order]) -> None:
    """The manifest says what was trained; the same order again trains nothing."""
    events: list[Event] = []
    manifest = train_dataset(order(), plugins, events.append)
    assert events == [TrainingProgressed(1, 2, {"loss": 2.0})]
    assert (manifest["adapter"], manifest["loss"], manifest["model"]) == ("adapter", 0.5, "local/x")
    assert manifest["details"] == {"why": "test"}
    assert train_dataset(order(), plugins) == manifest
    assert calls(order()) == [{"resume": False, "seed": 7}]


@pytest.mark.parametrize("change", [{"inputs": "b"}, {"model": "local/y"}])
def test_another_order_trains_anew(
    plugins: Plugins, order: Callable[..., Order], change: dict[str, Any]
) -> None:
    """Another dataset or other options replace what lies in the folder."""
    first = train_dataset(order(), plugins)
    second = train_dataset(order(**change), plugins)
    assert second["identity"] != first["identity"]
    assert calls(order()) == [{"resume": False, "seed": 7}]


def test_a_training_cut_short_is_taken_up(plugins: Plugins, order: Callable[..., Order]) -> None:
    """What a failure left is resumed by the same order, and by no other."""
    with pytest.raises(TrainerError, match=r"'stub' failed: ValueError: the loss is no number"):
        train_dataset(order(fail=True), plugins)
    with pytest.raises(TrainerError):
        train_dataset(order(fail=True), plugins)
    assert [call["resume"] for call in calls(order())] == [False, True]
    train_dataset(order(), plugins)
    assert [call["resume"] for call in calls(order())] == [False]


def test_a_stop_reaches_the_trainer(plugins: Plugins, order: Callable[..., Order]) -> None:
    """A stop ends the training as a stop, and is not blamed on the trainer."""

    def stop() -> None:
        raise RunInterrupted(15)

    with pytest.raises(RunInterrupted):
        train_dataset(order(), plugins, check_stop=stop)


def test_a_folder_that_is_no_dataset(plugins: Plugins, order: Callable[..., Order]) -> None:
    """Training asks for a packaged dataset."""
    made = order()
    (made.dataset / "manifest.json").unlink()
    with pytest.raises(UsageError, match="no packaged dataset"):
        train_dataset(made, plugins)
