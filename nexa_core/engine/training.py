"""Trains a student on a packaged dataset through a trainer plugin, once; a killed training goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_core.engine.budget import Budget
from nexa_core.engine.context import Context, RunInterrupted
from nexa_core.engine.health import describe_illness, measure_training
from nexa_core.engine.machine import MachineTime
from nexa_core.engine.packaging import read_manifest
from nexa_core.engine.plan import Plan
from nexa_core.engine.verdicts import decide_phase
from nexa_core.errors import (
    BudgetError,
    NexaError,
    Place,
    PreflightError,
    TrainerError,
    UsageError,
    boundary,
)
from nexa_core.events import Event, TrainingProgressed, WarningRaised
from nexa_core.plugins import Plugins
from nexa_core.records import Training, content_hash
from nexa_core.store.files import encode_line, make_folder, replace_file
from nexa_core.store.money import NOTE, Spent, read_note, write_note

__all__ = ["Order", "check_training", "read_training", "train_dataset", "train_run"]

MANIFEST = "manifest.json"
BEGUN = "begun.json"
ROLE = "training"
"""The line of the bill that training's machine time is written on."""
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Order:
    """What shall be trained: `options` are the trainer's, `model` among them.

    `place` is where the pipeline asks for it.
    """

    dataset: Path
    out: Path
    method: str
    options: Mapping[str, Any]
    seed: int = 0
    place: Place | None = None


def train_run(context: Context) -> dict[str, Any]:
    """Train as the run's pipeline says, on the run's dataset, into `training/<method>/`."""
    settings = context.plan.pipeline.train
    assert settings is not None
    order = Order(
        context.run.dataset,
        context.run.training(settings.method),
        settings.method,
        {"model": settings.model, **settings.options},
        context.seed,
        context.plan.pipeline.place("train"),
    )
    path = order.out / f"{ROLE}{NOTE}"
    before = read_note(path)

    def note(settled: int, at_risk: int) -> None:
        now = Spent(Counter({ROLE: settled}), Counter({ROLE: at_risk}))
        now.add(before)
        write_note(path, now)

    machine = MachineTime(context.dispatch.budget, ROLE, settings.usd_per_hour, note)
    manifest = train_dataset(
        order, context.plan.plugins, context.announcer.announce, context.stop.check, machine
    )
    if before.total and not path.exists():  # another training took the folder
        note(0, 0)
    return {"training": {**summarise(manifest, order.out), **_judge_health(context, order.out)}}


def _judge_health(context: Context, folder: Path) -> dict[str, Any]:
    """The health of the training, decided and on record; a sick one ends the run, unless signed."""
    health = measure_training(context.plan.plugins, folder)
    if health is None:
        return {"health": []}
    checks = health.checks
    review = decide_phase(context, "train", health.gate, health.look, health.tallies)
    illness = describe_illness(checks)
    if illness is not None:
        context.announcer.announce(WarningRaised(illness))
    return {
        "health": [check.as_json() for check in checks],
        "decision": review.decision,
        "reason": illness or review.reason,
    }


def train_dataset(
    order: Order,
    plugins: Plugins,
    on_event: OnEvent = lambda event: None,
    check_stop: Callable[[], None] = lambda: None,
    machine: MachineTime | None = None,
) -> dict[str, Any]:
    """Train, and return the manifest; a training that ended with the same order is not done again.

    One that was killed with the same order goes on; any other that lies in `out` is replaced.
    `check_stop` is asked at least every few seconds and ends the training by raising; so does
    `machine`, whose time the training takes, when the budget holds no further minute.

    Raises:
        UsageError: The folder holds no packaged dataset.
        MissingExtraError: What the trainer needs is not installed.
        TrainerError: It failed.
    """
    dataset = read_manifest(order.dataset)
    if dataset is None:
        raise UsageError(
            f"'{order.dataset}' is no packaged dataset: it has no manifest.json.",
            "`nexa package RUN` makes one.",
            order.place,
        )
    spec = plugins.trainers.get(order.method, order.place)
    trainer = plugins.build(spec, order.options, {"seed": order.seed}, order.place)
    identity = content_hash([order.method, dict(order.options), order.seed, dataset["inputs"]], 32)
    found = read_training(order.out)
    if found is not None and found["identity"] == identity:
        return found
    resumes = _begin(order.out, identity)
    machine = machine or MachineTime(Budget(), ROLE, None)
    relay = _Relay(on_event, check_stop, machine)
    machine.begin()
    try:
        with boundary(TrainerError, f"The training method '{order.method}'"):
            training = trainer.train(order.dataset, order.out, relay.tell, resumes)
    except NexaError:
        if relay.stopped is not None:
            raise relay.stopped from None
        raise
    finally:
        machine.end()
    return _finish(order, dataset, identity, training)


def check_training(plan: Plan, chat: bool) -> None:
    """Refuse, before anything is paid for, what the pipeline's `train` section cannot do.

    Raises:
        MissingExtraError: What the trainer needs is not installed.
        PreflightError: The student cannot be trained on this format.
    """
    settings, place = plan.pipeline.train, plan.pipeline.place("train")
    if settings is None:
        return
    spec = plan.plugins.trainers.get(settings.method, plan.pipeline.place("train.method") or place)
    options = {"model": settings.model, **settings.options}
    trainer = plan.plugins.build(spec, options, {"seed": plan.pipeline.seed}, place)
    faults = trainer.preflight(chat)
    if faults:
        raise PreflightError(
            f"The student '{settings.model}' cannot be trained: {'; '.join(faults)}.",
            "Choose another student or another package.format.",
            place,
        )


def read_training(out: Path) -> dict[str, Any] | None:
    """The manifest of a training that ended, None where none did."""
    path = out / MANIFEST
    if not path.exists():
        return None
    manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return manifest


def summarise(manifest: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The training as `nexa run --json` prints it."""
    wanted = ("loss", "steps", "rows", "tokens", "seconds")
    return {
        "adapter": str(out / manifest["adapter"]),
        "method": manifest["method"],
        **{key: manifest[key] for key in wanted},
    }


class _Relay:
    """Hands a trainer's events on, and stops it by raising out of its own call."""

    def __init__(
        self, on_event: OnEvent, check_stop: Callable[[], None], machine: MachineTime
    ) -> None:
        self._on_event, self._check_stop, self._machine = on_event, check_stop, machine
        self.stopped: RunInterrupted | BudgetError | None = None

    def tell(self, event: Event) -> None:
        """Hand on an event; one without metrics only says that the work goes on."""
        try:
            self._check_stop()
            self._machine.tick()
        except (RunInterrupted, BudgetError) as stopped:
            self.stopped = stopped
            raise
        if not isinstance(event, TrainingProgressed) or event.metrics:
            self._on_event(event)


def _begin(out: Path, identity: str) -> bool:
    """Make the folder ready; whether a training of the same order lies in it, cut short."""
    path = out / BEGUN
    if path.exists() and json.loads(path.read_text("utf-8"))["identity"] == identity:
        return True
    shutil.rmtree(out, ignore_errors=True)
    make_folder(out, 2)
    replace_file(path, encode_line({"identity": identity}))
    return False


def _finish(
    order: Order, dataset: Mapping[str, Any], identity: str, training: Training
) -> dict[str, Any]:
    values = asdict(training)
    adapter = Path(values.pop("adapter_path"))
    manifest = {
        "version": 1,
        "identity": identity,
        "method": order.method,
        "options": dict(order.options),
        "model": order.options.get("model"),
        "adapter": os.path.relpath(adapter, order.out),
        **values,
        "dataset": os.path.relpath(order.dataset, order.out),
        "dataset_files": dataset["files"],
        "prompt_template": dataset["prompt_template"],
        "chat": dataset["chat"],
        "marks": dataset["marks"],
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, default=str)
    replace_file(order.out / MANIFEST, text.encode() + b"\n")
    return manifest
