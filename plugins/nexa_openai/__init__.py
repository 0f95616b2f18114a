"""Models behind OpenAI-compatible endpoints: OpenAI, OpenRouter, and servers of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexa_core import ModelSpec, hookimpl

if TYPE_CHECKING:
    from nexa_core import Model, Role

_PROVIDERS = {
    "openai": "OpenAI's models, also as batches",
    "openrouter": "Models of many providers through OpenRouter",
    "vllm": "A vLLM server, by default on this machine",
    "sglang": "An SGLang server, by default on this machine",
    "ollama": "An Ollama server, by default on this machine",
    "llamacpp": "A llama.cpp server, by default on this machine",
    "transformers": "A server started by `transformers serve`",
    "openai-compatible": "Any server that speaks OpenAI's protocol, at the role's base_url",
}


@hookimpl
def register_models() -> Iterable[ModelSpec]:
    """One provider per kind of endpoint; the last also serves every unknown name with a base_url."""
    return [ModelSpec(name, summary, _build) for name, summary in _PROVIDERS.items()]


def _build(role: Role) -> Model:
    from nexa_openai.model import build_model

    return build_model(role)
