"""Evaluation items: how they are read, what identifies them, when a training row repeats one."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nexa_core.conversations import ConversationError, read_messages
from nexa_core.engine.plan import Plan
from nexa_core.engine.sources import open_source
from nexa_core.errors import SourceError
from nexa_core.protocols import Source
from nexa_core.records import Message, Row, content_hash

__all__ = [
    "Items",
    "bind_items",
    "normalise_text",
    "read_items",
    "read_turns",
    "tell_conversation",
]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Items:
    """What a model is asked in an evaluation; every item has `id` and `instruction` as text.

    An item with turns before its question has them all in `messages`, the question last.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over ids, instructions and answers in order: equal items, equal hash."""
        return content_hash([_identify(item) for item in self.rows])

    @property
    def texts(self) -> frozenset[str]:
        """The instructions, normalised: what no training row may ask."""
        return frozenset(normalise_text(item["instruction"]) for item in self.rows)


def _identify(item: Row) -> list[object]:
    told = [item["id"], item["instruction"], item.get("answer")]
    return [*told, item["messages"], item.get("tools")] if read_turns(item) else told


def read_turns(item: Row) -> tuple[Message, ...]:
    """The turns of an item whose question is not the first; empty where the question is all.

    Raises:
        ConversationError: Its `messages` are no conversation.
    """
    given = item.get("messages")
    turns = read_messages(given) if given is not None else ()
    return () if [turn.role for turn in turns] == ["user"] else turns


def tell_conversation(item: Row) -> str:
    """The question as text: the instruction, after the turns before it where there are any."""
    turns = read_turns(item)
    if not turns:
        return str(item["instruction"])
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)


def normalise_text(text: str) -> str:
    """The words of a text, case-folded, one space between them: NFKC, then `\\w+`."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def bind_items(plan: Plan) -> Items | None:
    """The items that the pipeline's `evaluate` section names: a plugin's, or a file's.

    None where nothing is evaluated, or on rows held out of the pipeline's own.
    """
    settings = plan.pipeline.evaluate
    if settings is None or settings.items is None:
        return None
    sources, place = plan.plugins.sources, plan.pipeline.place("evaluate.items")

    def find_shipped(name: str) -> Source | None:
        if name not in sources.names():
            return None
        found: Source = plan.plugins.build(sources.get(name, place), None, None, place)
        return found

    folder = plan.plugins.workspace.root
    return read_items(settings.items, open_source(settings.items, folder, place, find_shipped))


def read_items(name: str, source: Source) -> Items:
    """Every row of a source as an item; an `id` is made of the row's number where it has none.

    A `prompt` stands in for a missing `instruction`, and so do `messages`: their last turn is the
    answer where an assistant says it, the one before it the question.

    Raises:
        SourceError: A row cannot be read or has no `instruction`, two share an `id`, or none is.
    """
    rows: list[Row] = []
    for number, row in enumerate(source.rows(), start=1):
        if isinstance(row, Exception):
            raise SourceError(f"Row {number} of the items '{name}' cannot be read: {row}")
        rows.append(_read_item(name, number, row))
    if not rows:
        raise SourceError(f"The items '{name}' hold no row.", "Name a source with items.")
    _refuse_duplicates(name, rows)
    return Items(name, tuple(rows))


def _read_item(name: str, number: int, row: Row) -> Row:
    if "instruction" not in row and "prompt" not in row and row.get("messages"):
        row = _read_conversation(name, number, row)
    else:
        row = {key: value for key, value in row.items() if key != "messages"}
    instruction = row.get("instruction", row.get("prompt"))
    if not isinstance(instruction, str) or not instruction.strip():
        raise SourceError(
            f"Row {number} of the items '{name}' has no text under `instruction`.",
            f"It has: {', '.join(map(str, row)) or 'nothing'}.",
        )
    return {**row, "id": str(row.get("id", f"item-{number:05d}")), "instruction": instruction}


def _read_conversation(name: str, number: int, row: Row) -> Row:
    """The row with question and answer of its own, and in `messages` what is to be answered."""
    turns = row["messages"]
    try:
        turns = json.loads(turns) if isinstance(turns, str) else list(turns)
        said = turns.pop() if turns and turns[-1].get("role") == "assistant" else {}
        asked = read_messages(turns)
    except (ConversationError, ValueError, TypeError, AttributeError) as cause:
        raise SourceError(
            f"Row {number} of the items '{name}' has `messages` that cannot be asked: {cause}.",
            "Give `messages` as turns of `role` and `content`, the question before the answer.",
        ) from cause
    answer = row.get("answer", said.get("content"))
    return {**row, "messages": turns, "instruction": asked[-1].content, "answer": answer}


def _refuse_duplicates(name: str, rows: Sequence[Row]) -> None:
    for identity in _repeated(item["id"] for item in rows):
        raise SourceError(
            f"Two items of '{name}' have the id '{identity}'.", "Give every item an id of its own."
        )


def _repeated(values: Iterable[str]) -> Iterable[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield value
        seen.add(value)
