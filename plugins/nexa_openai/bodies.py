"""Writes the body of a request: chat or completions, sampling by the endpoint's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexa_core import CallFailed, Failure, Request
from nexa_openai.coding import encode
from nexa_openai.providers import Provider, is_reasoning

if TYPE_CHECKING:
    from nexa_core import Message, Role

FIXED = frozenset(["model", "messages", "prompt", "stream", "n"])
"""What a role's extra_body must not set."""


@dataclass(frozen=True)
class BodyWriter:
    """Writes bodies for one model. `extra` ends every body, so that the user's own words win."""

    model: str
    chat: bool
    renamed: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    top: int = 20

    def write(self, request: Request) -> bytes:
        """The body that asks for a completion."""
        return encode(self.build(request))

    def write_choice(self, request: Request) -> bytes:
        """The body that asks for the log-probabilities of the first token.

        Temperature and top_p are one, so that servers which tell probabilities after sampling
        tell the model's own.
        """
        body = self.build(request)
        body |= {"temperature": 1, "top_p": 1, self.renamed.get("max_tokens", "max_tokens"): 1}
        if self.chat:
            return encode(body | {"logprobs": True, "top_logprobs": self.top})
        return encode(body | {"logprobs": self.top})

    def build(self, request: Request) -> dict[str, Any]:
        """The body as an object."""
        body: dict[str, Any] = {"model": self.model, **self._ask(request.prompt)}
        renamed = self.renamed
        for key, value in request.sampling.items():
            body[renamed.get(key, key)] = value
        if request.stop:
            body["stop"] = request.stop
        body["seed"] = request.seed
        if request.tools:
            body["tools"] = request.tools
        if request.schema:
            body["response_format"] = _name_schema(request.schema)
        body.update(self.extra)
        return body

    def _ask(self, prompt: str | tuple[Message, ...]) -> dict[str, Any]:
        if not self.chat:
            if isinstance(prompt, str):
                return {"prompt": prompt}
            raise CallFailed(
                Failure.BAD_REQUEST, "messages were given to a model with `api: completions`"
            )
        if isinstance(prompt, str):
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"messages": [_write_message(message) for message in prompt]}


def make_writer(role: Role, provider: Provider, model: str, name: str) -> BodyWriter:
    """The writer for a role's model behind an endpoint."""
    chat = role.api == "chat"
    renamed = dict(provider.renamed)
    if chat and name == "openai" and (provider.key_host or is_reasoning(model)):
        renamed["max_tokens"] = "max_completion_tokens"
    extra = {"usage": {"include": True}} if provider.asks_cost else {}
    return BodyWriter(
        model, chat, renamed, {**extra, **role.extra_body}, provider.top[0 if chat else 1]
    )


def _write_message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = message.tool_calls
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _name_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": "reply", "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}


def is_strict(schema: Any) -> bool:
    """Whether a schema fits OpenAI's strict mode: objects are closed and require all they have."""
    if isinstance(schema, list):
        return all(is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required", ())) != set(properties)
    ):
        return False
    return all(is_strict(part) for part in schema.values())
