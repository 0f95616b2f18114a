"""Finds the weights that a student's reference names, without importing anything heavy."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nexa_core import UsageError


@dataclass(frozen=True)
class Weights:
    """Where transformers finds a model: a folder, or a name on the hub with a wanted revision."""

    source: str
    revision: str | None
    on_hub: bool

    def as_json(self) -> dict[str, Any]:
        """The weights as the worker's order holds them."""
        return asdict(self)

    def read_settings(self, name: str) -> dict[str, Any] | None:
        """A JSON file beside local weights, None where there is none or they are on the hub."""
        path = Path(self.source) / name
        if self.on_hub or not path.is_file():
            return None
        settings: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return settings


def find_weights(reference: str) -> Weights:
    """The weights of `local/FOLDER`, `local/NAME` (a package with a folder `weights`) or `hf/NAME`.

    Raises:
        UsageError: The reference names no weights.
    """
    provider, _, rest = reference.partition("/")
    if provider == "hf" and rest:
        name, _, revision = rest.partition("@")
        return Weights(name, revision or None, on_hub=True)
    folder = _find_folder(rest) if provider == "local" else None
    if folder is None:
        raise UsageError(
            f"'{reference}' names no weights to train.",
            "Write local/FOLDER with config.json in it, local/NAME of a shipped model, or hf/NAME.",
        )
    return Weights(str(folder.resolve()), None, on_hub=False)


def _find_folder(reference: str) -> Path | None:
    folder = Path(reference).expanduser()
    if (folder / "config.json").is_file():
        return folder
    package = reference.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for root in (spec and spec.submodule_search_locations) or ():
        if (Path(root) / "weights" / "config.json").is_file():
            return Path(root) / "weights"
    return None
