"""Replies of a given JSON form: how a model is told the form, by what its endpoint takes.

Four modes, the strictest first: `schema` (the endpoint decodes by the JSON schema), `tool` (a
function that must be called), `object` (some JSON object, its form in words), `plain` (words alone).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from nexa_core.errors import CallFailed, Failure
from nexa_core.records import Completion, FinishReason, Message, canonical_json

__all__ = ["MODES", "FormChoice", "Mode", "find_schema", "is_strict", "tell_form", "write_form"]

Mode = Literal["schema", "tool", "object", "plain"]
MODES: tuple[Mode, ...] = ("schema", "tool", "object", "plain")
WEAK: tuple[Mode, ...] = ("object", "plain")
"""Modes in which nothing but the model's goodwill makes the reply fit."""
REPLY = "reply"
"""What schemas and functions are called on the wire."""
_NAMED = {
    "schema": "a JSON schema",
    "tool": "a function that must be called",
    "object": "the JSON object mode",
    "plain": "words alone",
}
_SENTENCE = "Reply with one JSON object and nothing else. It must fit this JSON Schema:"
_WORDS = ("response_format", "json_schema", "json schema", "json_object", "structured output")
_TOOL_WORDS = ("tool", "function")


def write_form(schema: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
    """The fields of an OpenAI body that ask for the form; none for `plain`."""
    if mode == "schema":
        named = {"name": REPLY, "schema": schema, "strict": is_strict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if mode == "tool":
        about = {"description": "Gives the whole reply.", "strict": is_strict(schema)}
        function = {"name": REPLY, **about, "parameters": schema}
        chosen = {"type": "function", "function": {"name": REPLY}}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": chosen}
    return {"response_format": {"type": "json_object"}} if mode == "object" else {}


def tell_form(
    prompt: str | tuple[Message, ...], schema: Mapping[str, Any], mode: Mode
) -> str | tuple[Message, ...]:
    """The prompt with the schema in words at its end, in the modes that have no other place for it."""
    if mode in ("schema", "tool"):
        return prompt
    words = explain_schema(schema)
    if isinstance(prompt, str):
        return f"{prompt}\n\n{words}"
    *before, last = prompt
    return (*before, replace(last, content=f"{last.content}\n\n{words}"))


def explain_schema(schema: Mapping[str, Any]) -> str:
    """The form as a sentence, and the schema itself."""
    return f"{_SENTENCE}\n{canonical_json(dict(schema))}"


def find_schema(prompt: str) -> Mapping[str, Any] | None:
    """The schema that `explain_schema` wrote last into a prompt; None where there is none."""
    _, found, rest = prompt.rpartition(_SENTENCE)
    if not found:
        return None
    try:
        schema, _ = json.JSONDecoder().raw_decode(rest.lstrip())
    except ValueError:
        return None
    return schema if isinstance(schema, dict) else None


class FormChoice:
    """The mode in which one model is asked for forms: the strictest that it takes, or the one forced.

    An endpoint that refuses a request for its form is asked in the next weaker mode from then on.
    """

    def __init__(self, modes: Sequence[Mode], forced: Mode | None = None) -> None:
        self.modes: tuple[Mode, ...] = (forced,) if forced else tuple(modes)
        self.mode: Mode = self.modes[0]

    def narrow(self, modes: Sequence[Mode]) -> None:
        """Leave out what the endpoint says that it does not take; a forced mode stays."""
        kept = tuple(mode for mode in self.modes if mode in modes)
        if len(self.modes) > 1 and kept:
            self.modes, self.mode = kept, kept[0]

    def read(self, reply: Completion, mode: Mode) -> Completion:
        """The reply with the form in its text: in `tool` mode the arguments of the function called.

        A model that answered in words instead keeps its words: whoever asked says whether they fit.
        """
        for call in reply.tool_calls or () if mode == "tool" else ():
            function = call.get("function") or {}
            if function.get("name") == REPLY and isinstance(function.get("arguments"), str):
                calling = reply.finish_reason == FinishReason.TOOL_CALLS
                ending = FinishReason.STOP if calling else reply.finish_reason
                text = function["arguments"]
                return replace(reply, text=text, finish_reason=ending, tool_calls=None)
        return reply

    def refuse(self, failed: CallFailed, mode: Mode, whom: str) -> CallFailed:
        """The failure to raise for a request that was refused in `mode`.

        Where its words are about the form and a weaker mode is left, that mode is taken from now
        on, and the failure says so and is worth another try; else it is `failed` itself.
        """
        weaker = self._step_down(failed, mode)
        if weaker is None:
            return failed
        if self.mode == mode:
            self.mode = weaker
        # The same words for every refusal of a mode, also of one that comes late: told once.
        told = f"{whom} refused {_NAMED[mode]} ({failed.message}) and is asked by {_NAMED[weaker]}"
        return CallFailed(Failure.FORM, told, failed.charge, status=failed.status, raw=failed.raw)

    def _step_down(self, failed: CallFailed, mode: Mode) -> Mode | None:
        if failed.failure is not Failure.BAD_REQUEST or mode not in self.modes:
            return None
        said = f"{failed.message} {failed.raw or ''}".casefold()
        words = _TOOL_WORDS if mode == "tool" else _WORDS
        if not any(word in said for word in words):
            return None
        return next(iter(self.modes[self.modes.index(mode) + 1 :]), None)


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
