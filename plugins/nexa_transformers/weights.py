"""Finds the weights that a model reference names, and hashes them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from nexa_core import PreflightError, UnknownNameError

_WEIGHED = {".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken"}
"""What decides a model's replies; cards, pickles and checkpoints in sub-folders do not."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where transformers finds a model, and which one it is.

    `source` is a folder or a name on the hub. `revision` is the hash of the folder, or the wanted
    hub revision (None for the newest).
    """

    source: str
    revision: str | None
    on_hub: bool


def find_local(reference: str) -> Weights:
    """The folder `reference`, else the folder `weights` inside the installed package of that name.

    A path is read from the current folder, the workspace. A package `nexa_tiny` ships a model by
    keeping a folder `weights` in it, which is then called `local/nexa-tiny`; it is located and
    never imported.

    Raises:
        UnknownNameError: Neither exists.
    """
    folder = Path(reference).expanduser()
    if not (folder / "config.json").is_file():
        shipped = _find_shipped(reference.replace("-", "_"))
        if shipped is None:
            raise UnknownNameError(
                "local model",
                reference,
                [name.replace("_", "-") for name in _list_shipping()],
                fix="Give a folder that holds config.json and *.safetensors.",
            )
        folder = shipped
    return Weights(str(folder.resolve()), hash_folder(folder), on_hub=False)


def find_hub(reference: str) -> Weights:
    """The hub's model `NAME` or `NAME@REVISION`."""
    name, _, revision = reference.partition("@")
    return Weights(name, revision or None, on_hub=True)


def hash_adapter(folder: Path) -> str:
    """The hash of a LoRA adapter's folder.

    Raises:
        PreflightError: The folder holds no adapter.
    """
    if not (folder / "adapter_config.json").is_file():
        raise PreflightError(
            f"The adapter '{folder}' cannot be used: there is no adapter_config.json in it.",
            "Give the folder that a training left, as in artifacts/RUN/training/NAME/adapter.",
        )
    return hash_folder(folder)


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of the files that decide a model's replies, 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _WEIGHED and path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(path.name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def _find_shipped(package: str) -> Path | None:
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    for root in (spec and spec.submodule_search_locations) or ():
        if (Path(root) / "weights" / "config.json").is_file():
            return Path(root) / "weights"
    return None


def _list_shipping() -> Iterator[str]:
    for entry in entry_points(group="nexa"):
        if _find_shipped(entry.module.partition(".")[0]):
            yield entry.module.partition(".")[0]
