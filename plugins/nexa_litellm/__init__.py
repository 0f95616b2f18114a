"""Every other provider, through LiteLLM: anthropic, gemini, bedrock, mistral, groq and the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexa_core import ModelSpec, Need, hookimpl
from nexa_litellm.names import NAMES

if TYPE_CHECKING:
    from nexa_core import Model, Role

_NEEDS = (Need("litellm", "litellm", "130 MB with what it needs, 200 MB of memory"),)


@hookimpl
def register_models() -> Iterable[ModelSpec]:
    """The usual providers by name; `litellm/PROVIDER/MODEL` reaches every other one it knows."""
    return [
        *(
            ModelSpec(name, f"{title}, through LiteLLM", _build, needs=_NEEDS)
            for name, title in NAMES.items()
        ),
        ModelSpec("litellm", "litellm/PROVIDER/MODEL: any provider", _build, needs=_NEEDS),
    ]


def _build(role: Role) -> Model:
    from nexa_litellm.model import build_model

    return build_model(role)
