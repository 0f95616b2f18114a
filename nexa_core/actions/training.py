"""Training on a dataset that is packaged already, without a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.health import assess_training, describe_illness
from nexa_core.engine.training import Order, summarise, train_dataset
from nexa_core.errors import UsageError
from nexa_core.events import Event, WarningRaised
from nexa_core.plugins import load_plugins
from nexa_core.workspace import Workspace

__all__ = ["is_dataset", "train_folder"]


def is_dataset(path: str) -> bool:
    """Whether what a user named is the folder of a packaged dataset."""
    return (Path(path) / "manifest.json").is_file()


def train_folder(
    dataset: str | Path,
    *,
    workspace: Workspace,
    model: str | None,
    method: str = "qlora",
    options: Sequence[str] = (),
    out: str | Path | None = None,
    workspace_plugins: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Train a student on a packaged dataset, into `out` (by default `training/<method>` beside it).

    `options` are the method's own, as NAME=VALUE. The same order again is not done again.

    Raises:
        UsageError: No student is named, or an option is none.
    """
    if model is None:
        raise UsageError(
            f"'{dataset}' is a dataset, and no student is named.",
            "Add --model local/PATH or hf/NAME.",
        )
    given: dict[str, Any] = {"model": model}
    for each in options:
        name, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"'{each}' is no setting.", "Write NAME=VALUE, as in epochs=2.")
        given[name.removeprefix("train.")] = _read(value)
    folder = Path(out) if out is not None else Path(dataset).parent / "training" / method
    plugins = load_plugins(workspace, workspace_plugins)
    manifest = train_dataset(Order(Path(dataset), folder, method, given), plugins, on_event)
    checks = assess_training(plugins, folder)
    if illness := describe_illness(checks):
        on_event(WarningRaised(illness))
    health = [check.as_json() for check in checks]
    return {"dataset": str(dataset), **summarise(manifest, folder), "health": health}


def _read(value: str) -> Any:
    from nexa_core.documents import parse_yaml

    return parse_yaml(value, "--set", UsageError).data
