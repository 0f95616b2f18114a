"""Models that run in this process: `local/FOLDER`, `local/NAME`, `hf/NAME`, `hf/NAME@REVISION`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexa_core import ModelSpec, Need, hookimpl

if TYPE_CHECKING:
    from nexa_core import Model, Role

_NEEDS = (
    Need("torch", "local", "0.2 GB for CPU only, else 3 GB"),
    Need("transformers", "local", "15 MB"),
)


@hookimpl
def register_models() -> Iterable[ModelSpec]:
    """The two providers of models in this process."""
    return [
        ModelSpec(
            "local",
            "A folder of weights, or a model that a package ships",
            _build_local,
            needs=_NEEDS,
        ),
        ModelSpec(
            "hf", "A model of the Hugging Face hub, NAME or NAME@REVISION", _build_hub, needs=_NEEDS
        ),
    ]


def _build_local(role: Role) -> Model:
    from nexa_transformers.model import build_local

    return build_local(role)


def _build_hub(role: Role) -> Model:
    from nexa_transformers.model import build_hub

    return build_hub(role)
