"""A row as a conversation: turns of every origin in one form, or why a row has no such form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nexa_trl.options import ChatOptions

__all__ = ["Conversation", "Unfit", "read_conversations"]

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
_THOUGHT = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)
_REASONING = ("reasoning_content", "reasoning", "thinking")


class Unfit(Exception):  # noqa: N818 - says why a row has no form, and is counted
    """Why a row cannot be written, as one word of the reasons that are counted."""


@dataclass(frozen=True)
class Conversation:
    """Turns whose last one is the answer, and the JSON of the tools on offer, if any.

    A turn has `role` (system, user, assistant, tool), `content`, and where there is one `reasoning`,
    `tool_calls` (OpenAI's form, arguments as JSON text), `tool_call_id` and `name`.
    """

    turns: tuple[Mapping[str, Any], ...]
    tools: str | None = None

    @property
    def uses_tools(self) -> bool:
        """Whether any turn calls a tool or answers for one."""
        return any(turn["role"] == "tool" or turn.get("tool_calls") for turn in self.turns)


def read_conversations(table: pa.Table, options: ChatOptions) -> Iterator[Conversation | str]:
    """Each row as a conversation, or the reason why it is none, in order.

    Read are `prompt` (text or turns), `completion`, and where they are `reasoning`, `tool_calls`
    and `tools`.
    """
    names = ("prompt", "completion", "reasoning", "tool_calls", "tools")
    for row in table.select([n for n in names if n in table.column_names]).to_pylist():
        try:
            yield _converse(row, options)
        except Unfit as reason:
            yield str(reason)


def _converse(row: Mapping[str, Any], options: ChatOptions) -> Conversation:
    if not row["prompt"]:
        raise Unfit("no_prompt")
    asked = _read_prompt(row["prompt"])
    if asked[-1]["role"] not in ("user", "tool"):
        raise Unfit("no_question")
    if options.system is not None and asked[0]["role"] != "system":
        asked = [{"role": "system", "content": options.system}, *asked]
    answer = _read_turn({**row, "role": "assistant", "content": row["completion"]})
    if not answer["content"] and not answer.get("tool_calls"):
        raise Unfit("no_completion")
    tools = _write_json(row.get("tools")) if options.tools else None
    found = Conversation((*asked, answer), tools)
    if found.uses_tools and not options.tools:
        raise Unfit("uses_tools")
    return found


def _read_prompt(prompt: Any) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [_read_turn(turn) for turn in prompt]


def _read_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    given = str(turn.get("role") or turn.get("from"))
    if given not in _ROLES:
        raise Unfit("unknown_role")
    role = _ROLES[given]
    content = _read_content(turn.get("content", turn.get("value")))
    reasoning = next((str(turn[key]) for key in _REASONING if turn.get(key)), None)
    if role == "assistant" and (thought := _THOUGHT.match(content)):
        content, reasoning = content[thought.end() :], reasoning or thought[1].strip() or None
    read: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant":
        read |= {"reasoning": reasoning, "tool_calls": _read_calls(turn.get("tool_calls"))}
    read |= {key: turn.get(key) for key in ("tool_call_id", "name")}
    return {key: value for key, value in read.items() if value is not None}


def _read_content(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence) and all(_is_text(part) for part in content):
        return "\n".join(part["text"] for part in content)
    raise Unfit("not_text")


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def _read_calls(calls: Any) -> list[dict[str, Any]] | None:
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except ValueError:
            raise Unfit("bad_tool_call") from None
    if not calls:
        return None
    read = []
    for call in calls:
        function = call.get("function") or call
        if not function.get("name"):
            raise Unfit("bad_tool_call")
        arguments = _write_json(function.get("arguments")) or "{}"
        named = {"name": function["name"], "arguments": arguments}
        read.append({"id": call.get("id"), "type": "function", "function": named})
    return read


def _write_json(value: Any) -> str | None:
    """JSON of a value that may be JSON text already; nulls that Arrow filled in are left out."""
    if isinstance(value, str) or value is None:
        return value or None
    return json.dumps(_without_nulls(value), ensure_ascii=False)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
