"""The training formats: text, messages, Alpaca, ShareGPT, and preference pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from nexa_trl.conversations import Conversation, Unfit, read_conversations
from nexa_trl.options import AlpacaOptions, ChatOptions, PreferenceOptions

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_FUNCTION = pa.struct([("name", pa.string()), ("arguments", pa.string())])
_CALL = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", _FUNCTION)])
_PART = pa.struct([("from", pa.string()), ("value", pa.string())])
_PARTS = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


class PromptCompletion:
    """Columns `prompt` and `completion`: text, with a line break between them."""

    template = "{{ prompt }}\n"
    chat = False
    sft = True
    margin = None

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each row."""
        if not pa.types.is_nested(table.schema.field("prompt").type):
            return table.select(["prompt", "completion"])
        rows = [_as_text(found) for found in read_conversations(table, ChatOptions())]
        return _table(rows, {"prompt": pa.string(), "completion": pa.string()})


class Messages:
    """A column `messages`: the conversation, its last turn the answer; `tools` where rows have them."""

    template = "{{ prompt }}"
    chat = True
    sft = True
    margin = None

    def __init__(self, options: ChatOptions | None = None) -> None:
        self.options = options or ChatOptions()

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each row."""
        tools = self.options.tools and _may_use_tools(table)
        schema = {"messages": pa.list_(_turn_type(self.options, tools))}
        schema |= {"tools": pa.string()} if tools else {}
        write = _writer(self._write)
        return _table([write(c) for c in read_conversations(table, self.options)], schema)

    def _write(self, found: Conversation) -> dict[str, Any]:
        turns = [_turn(turn, self.options.reasoning) for turn in found.turns]
        return {"messages": turns, "tools": found.tools}


class Alpaca:
    """Columns `instruction`, `input` and `output`: one question and one answer, as text."""

    template = "{{ prompt }}"
    chat = True
    sft = False
    margin = None

    def __init__(self, options: AlpacaOptions | None = None) -> None:
        self.options = options or AlpacaOptions()

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each row."""
        name = self.options.input
        inputs = table[name].to_pylist() if name in table.column_names else [""] * len(table)
        schema = dict.fromkeys(("instruction", "input", "output"), pa.string())
        write = _writer(_as_pair)
        rows = [write(found) for found in read_conversations(table, ChatOptions())]
        filled = [
            {**row, "input": str(given or "")} for row, given in zip(rows, inputs, strict=True)
        ]
        return _table(filled, schema)


class ShareGPT:
    """A column `conversations` of `{from, value}`; tool calls as `function_call` and `observation`."""

    template = "{{ prompt }}"
    chat = True
    sft = False
    margin = None

    def __init__(self, options: ChatOptions | None = None) -> None:
        self.options = options or ChatOptions()

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each row."""
        tools = self.options.tools and _may_use_tools(table)
        schema = {"conversations": pa.list_(_PART), **({"tools": pa.string()} if tools else {})}
        write = _writer(self._write)
        return _table([write(c) for c in read_conversations(table, self.options)], schema)

    def _write(self, found: Conversation) -> dict[str, Any]:
        parts = [part for turn in found.turns for part in self._parts(turn)]
        return {"conversations": parts, "tools": found.tools}

    def _parts(self, turn: Mapping[str, Any]) -> Iterable[dict[str, str]]:
        calls = turn.get("tool_calls") or []
        if turn["content"] or not calls:
            # The form has no field for thoughts, so that kept ones stand in the text.
            shown = "drop" if self.options.reasoning == "drop" else "inline"
            text = _turn(turn, shown)["content"]
            yield {"from": _PARTS[turn["role"]], "value": text}
        for call in calls:
            function = call["function"]
            value = {"name": function["name"], "arguments": json.loads(function["arguments"])}
            yield {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}


class Preference:
    """Columns `prompt`, `chosen` and `rejected`: of one question's candidates the best and the worst."""

    sft = False
    _PLAIN: ClassVar[Any] = pa.string()

    def __init__(self, options: PreferenceOptions | None = None) -> None:
        self.options = options or PreferenceOptions()
        self.margin = self.options.margin
        self.chat = self.options.style == "chat"
        self.template = "{{ prompt }}" if self.chat else "{{ prompt }}\n"

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each pair, and the scores of both sides."""
        kind = pa.list_(_TURN) if self.chat else self._PLAIN
        schema = dict.fromkeys(("prompt", "chosen", "rejected"), kind)
        found = read_conversations(table, ChatOptions(system=self.options.system))
        others = table["rejected"].to_pylist()
        rows = [self._pair(one, other) for one, other in zip(found, others, strict=True)]
        exported = _table(rows, schema)
        for name in ("score_chosen", "score_rejected", "rejected_id"):
            exported = exported.append_column(name, table[name])
        return exported

    def _pair(self, found: Conversation | str, other: str) -> dict[str, Any]:
        try:
            conversation = _require(found)
            if conversation.uses_tools:
                raise Unfit("uses_tools")
            if not self.chat:
                pair = _as_pair(conversation)
                return {
                    "prompt": pair["instruction"],
                    "chosen": pair["output"],
                    "rejected": other,
                }
        except Unfit as reason:
            return {"reason": str(reason)}
        *asked, answer = (_turn(turn, "drop") for turn in conversation.turns)
        return {
            "prompt": asked,
            "chosen": [answer],
            "rejected": [{"role": "assistant", "content": other}],
        }


def _writer(write: Callable[[Conversation], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """The same, with a reason instead of columns where a row has no such form."""

    def checked(found: Conversation | str) -> dict[str, Any]:
        try:
            return write(_require(found))
        except Unfit as reason:
            return {"reason": str(reason)}

    return checked


def _require(found: Conversation | str) -> Conversation:
    if isinstance(found, str):
        raise Unfit(found)
    return found


def _as_text(found: Conversation | str) -> dict[str, Any]:
    pair = _writer(_as_pair)(found)
    if "reason" in pair:
        return pair
    return {"prompt": f"{pair['instruction']}\n", "completion": pair["output"]}


def _as_pair(found: Conversation) -> dict[str, Any]:
    """One question and one answer; more than that has no place in text."""
    if found.uses_tools:
        raise Unfit("uses_tools")
    if found.turns[0]["role"] == "system":
        raise Unfit("has_system")
    if len(found.turns) != 2:
        raise Unfit("many_turns")
    return {"instruction": found.turns[0]["content"], "output": found.turns[1]["content"]}


def _turn(turn: Mapping[str, Any], reasoning: str) -> dict[str, Any]:
    written = {key: value for key, value in turn.items() if key != "reasoning"}
    thought = turn.get("reasoning")
    if thought and reasoning == "keep":
        written["reasoning_content"] = thought
    if thought and reasoning == "inline":
        written["content"] = f"<think>\n{thought}\n</think>\n\n{turn['content']}"
    return written


def _turn_type(options: ChatOptions, tools: bool) -> pa.StructType:
    fields = [("role", pa.string()), ("content", pa.string())]
    if options.reasoning == "keep":
        fields.append(("reasoning_content", pa.string()))
    if tools:
        fields.append(("tool_calls", pa.list_(_CALL)))
        fields += [("tool_call_id", pa.string()), ("name", pa.string())]
    return pa.struct(fields)


def _may_use_tools(table: pa.Table) -> bool:
    """Whether the columns can hold tools at all; decided by types, so that all shards agree."""
    if {"tools", "tool_calls"} & set(table.column_names):
        return True
    kind = table.schema.field("prompt").type
    turn = getattr(kind, "value_type", None)
    return pa.types.is_struct(turn) and turn.get_field_index("tool_calls") >= 0 if turn else False


def _table(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows as columns, with the reason of those that have no such form."""
    arrays = {
        name: pa.array([None if "reason" in row else row.get(name) for row in rows], kind)
        for name, kind in schema.items()
    }
    reasons = pa.array([row.get("reason") for row in rows], pa.string())
    return pa.table({**arrays, "reason": reasons})
