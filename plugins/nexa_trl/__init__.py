"""Training formats, and QLoRA through trl, peft and bitsandbytes: `train: {method: qlora}`."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from nexa_core import ExporterSpec, MetricSpec, Need, TrainerSpec, hookimpl

_NEEDS = (
    Need("torch", "train", "0.2 GB for CPU only, else 3 GB"),
    Need("trl", "train", "1 MB"),
    Need("peft", "train", "1 MB"),
    Need("bitsandbytes", "train", "60 MB"),
    Need("datasets", "train", "1 MB"),
)


@hookimpl
def register_exporters() -> Iterable[ExporterSpec]:
    """The training formats."""
    return [
        _format("prompt-completion", "Text: columns `prompt` and `completion`", "PromptCompletion"),
        _format("messages", "Chat: a column `messages`", "Messages", "ChatOptions"),
        _format("alpaca", "Text: `instruction`, `input`, `output`", "Alpaca", "AlpacaOptions"),
        _format("sharegpt", "Chat: a column `conversations`", "ShareGPT", "ChatOptions"),
        _format("preference", "Pairs: `chosen`, `rejected`", "Preference", "PreferenceOptions"),
    ]


@hookimpl
def register_metrics() -> Iterable[MetricSpec]:
    """What the gate `training_health` reads, a row a step of the log."""
    population = "steps that say a loss"
    nonfinite, spikes = _build("metrics", "NonfiniteLoss"), _build("metrics", "LossSpikes")
    return [
        MetricSpec(
            "nonfinite_loss_rate", "The loss is no number", nonfinite, population=population
        ),
        MetricSpec("loss_spike_rate", "The loss jumps up", spikes, population=population),
    ]


@hookimpl
def register_trainers() -> Iterable[TrainerSpec]:
    """The training methods."""
    summary = "A low-rank adapter over 4-bit weights, through trl, peft and bitsandbytes"
    build = _build("trainer", "QloraTrainer")
    return [TrainerSpec("qlora", summary, build, lambda: _find("options", "QloraOptions"), _NEEDS)]


def _format(name: str, summary: str, build: str, options: str | None = None) -> ExporterSpec:
    settings = (lambda: _find("options", options)) if options else None
    return ExporterSpec(name, summary, _build("exporters", build), settings)


def _find(module: str, name: str) -> Any:
    return getattr(import_module(f"nexa_trl.{module}"), name)


def _build(module: str, name: str) -> Callable[..., Any]:
    return lambda options: _find(module, name)(*([] if options is None else [options]))
