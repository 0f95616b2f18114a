"""What is known about each kind of endpoint: its address, its key, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexa_core import Mode

SAMPLING = frozenset(
    [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "max_tokens",
        "reasoning_effort",
        "stop",
    ]
)
_ALL: tuple[Mode, ...] = ("schema", "tool", "object", "plain")
_NO_CHOICE: tuple[Mode, ...] = ("schema", "object", "plain")
"""It knows tools, and cannot be made to call one."""
_OWN = frozenset(["top_k", "min_p", "repetition_penalty"])
_REASONING = re.compile(r"(o\d|gpt-5(?!.*chat))")
_NO_REASONER_TAKES = frozenset(
    ["temperature", "top_p", "frequency_penalty", "presence_penalty", "stop"]
)


@dataclass(frozen=True)
class Provider:
    """One kind of endpoint.

    `key_env` is the variable of its key, which goes to `key_host` (and hosts under it) alone.
    `renamed` maps sampling keys to the endpoint's own names. `top` is how many likeliest tokens it
    tells, for chat and for completions; 0 where it tells none. `lists` says that `GET /models`
    lists every model that can be asked. `modes` are the ways in which it can be asked for JSON of a
    given form, the strictest first.
    """

    base_url: str | None = None
    key_env: str | None = None
    key_host: str | None = None
    self_hosted: bool = False
    takes: frozenset[str] = SAMPLING
    renamed: Mapping[str, str] = field(default_factory=dict)
    top: tuple[int, int] = (20, 20)
    modes: tuple[Mode, ...] = _ALL
    batches: bool = False
    lists: bool = True
    asks_cost: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "api.openai.com",
        takes=SAMPLING - _OWN,
        top=(20, 5),
        batches=True,
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter.ai", asks_cost=True
    ),
    "vllm": Provider("http://localhost:8000/v1", self_hosted=True),
    "sglang": Provider("http://localhost:30000/v1", self_hosted=True),
    "ollama": Provider(
        "http://localhost:11434/v1",
        self_hosted=True,
        takes=SAMPLING - _OWN,
        top=(20, 0),
        modes=_NO_CHOICE,
    ),
    "llamacpp": Provider(
        "http://localhost:8080/v1",
        self_hosted=True,
        takes=SAMPLING - {"reasoning_effort"},
        renamed={"repetition_penalty": "repeat_penalty"},
        lists=False,
        modes=_NO_CHOICE,
    ),
    "transformers": Provider(
        "http://localhost:8000/v1",
        self_hosted=True,
        # Its frequency_penalty is a repetition penalty under another name.
        takes=frozenset(["temperature", "top_p", "max_tokens", "stop"]),
        top=(0, 0),
        modes=("plain",),
        lists=False,
    ),
}
COMPATIBLE = Provider()


def find_faults(
    name: str, provider: Provider, sampling: Mapping[str, object], model: str
) -> list[str]:
    """The sampling keys that this endpoint, or this model of it, does not take."""
    faults = [f"{name} does not take '{key}'" for key in sampling if key not in provider.takes]
    thinks = name == "openai" and is_reasoning(model)
    if thinks and sampling.get("reasoning_effort") != "none":
        refused = [key for key in sampling if key in _NO_REASONER_TAKES]
        faults += [f"'{model}' is a reasoning model and does not take '{key}'" for key in refused]
    return faults


def is_reasoning(model: str) -> bool:
    """Whether the name is one of OpenAI's reasoning models, fine-tuned ones included."""
    return _REASONING.match(model.removeprefix("ft:")) is not None
