"""Conversations that rows bring along, in any common form: turns to continue, answers to judge, and `tools`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core.records import Message, Row, encode_json

__all__ = ["ConversationError", "flatten_column", "part_answer", "read_messages", "read_tools"]

_ROLES = frozenset(["system", "developer", "user", "assistant", "tool"])
_OTHER_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
_COLUMNS = ("messages", "conversations")


class ConversationError(Exception):
    """A row's `messages` or `tools` cannot be sent; says why."""


def read_messages(value: Any) -> tuple[Message, ...]:
    """The turns of a conversation whose last one asks for an answer.

    Raises:
        ConversationError: It is no such conversation, or holds what a text model cannot be asked.
    """
    if isinstance(value, str):
        value = _parse(value, "messages")
    if not isinstance(value, Sequence) or not value:
        raise ConversationError("`messages` is no list of turns")
    turns = tuple(_read_turn(turn) for turn in value)
    if turns[-1].role == "assistant":
        raise ConversationError(
            "its conversation ends with an answer: there is nothing to continue"
        )
    return turns


def part_answer(row: Row) -> Row:
    """A row whose conversation ends with an answer, with that answer in a column of its own.

    `messages` keeps the turns before it; the answer's text becomes `response`, what it thought and called
    `response_reasoning` and `response_tool_calls`. ShareGPT's `conversations` are taken for `messages`.
    Any other row stays as it is.
    """
    turns = next((row[name] for name in _COLUMNS if row.get(name)), None)
    try:
        turns = _parse(turns, "messages") if isinstance(turns, str) else turns
        *asked, last = [_name_turn(turn) for turn in turns or ()]
        if not asked or last.get("role") != "assistant":
            return row
        text = _read_content(last.get("content"))
    except (ConversationError, TypeError, ValueError):  # no turns at all: its checks will say so
        return row
    answer = {
        "response": text,
        "response_reasoning": _as_text(last.get("reasoning_content")),
        "response_tool_calls": _as_text(last.get("tool_calls")),
    }
    kept = {name: value for name, value in row.items() if name not in _COLUMNS}
    given = {name: value for name, value in answer.items() if value is not None}
    return {**kept, "messages": asked, **given}


def _name_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn with OpenAI's names, whichever it has."""
    named = dict(turn)
    if "from" in named:
        named = {"role": named["from"], "content": named.get("value")}
    return {**named, "role": _OTHER_ROLES.get(named.get("role", ""), named.get("role"))}


def read_tools(value: Any) -> tuple[Mapping[str, Any], ...] | None:
    """The tools on offer, None where there are none.

    Raises:
        ConversationError: They are no list of objects.
    """
    if isinstance(value, str):
        value = _parse(value, "tools")
    if not value:
        return None
    if not isinstance(value, Sequence) or not all(isinstance(tool, Mapping) for tool in value):
        raise ConversationError("`tools` is no list of objects")
    return tuple(value)


def flatten_column(name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a source column `tools` or `messages` in a form that Arrow keeps as it is.

    Tools, and the tool calls of turns, are JSON of any shape: as Arrow structs every row would get
    the keys of all others. They become JSON text.
    """
    if name == "tools":
        return [_as_text(value) for value in values]
    if name == "messages":
        return [_flatten_turns(value) for value in values]
    return list(values)


def _flatten_turns(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {**turn, "tool_calls": _as_text(turn["tool_calls"])}
        if isinstance(turn, dict) and turn.get("tool_calls") is not None
        else turn
        for turn in value
    ]


def _as_text(value: Any) -> str | None:
    return (
        value
        if value is None or isinstance(value, str)
        else encode_json(value).decode("utf-8", "replace")
    )


def _read_turn(turn: Any) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
        raise ConversationError(f"a turn is no message: its role must be one of {sorted(_ROLES)}")
    calls = turn.get("tool_calls")
    if isinstance(calls, str):
        calls = _parse(calls, "tool_calls")
    return Message(
        turn["role"], _read_content(turn.get("content")), calls or None, turn.get("tool_call_id")
    )


def _read_content(content: Any) -> str:
    """Text as it is, or the text parts of a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, Sequence) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    for part, text in zip(parts, texts, strict=True):
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ConversationError(f"a turn holds a part of kind '{kind}': only text can be sent")
    return "".join(text for text in texts if text is not None)


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as cause:
        raise ConversationError(f"`{name}` is no JSON: {cause}") from None
