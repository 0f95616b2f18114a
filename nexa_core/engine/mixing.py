"""Other training data put among a dataset's own rows: read, drawn by share, brought into rows' form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.conversations import part_answer
from nexa_core.engine.sources import SourceRow, fingerprint, sample_rows
from nexa_core.errors import CheckError, Place, SourceError, boundary
from nexa_core.protocols import Check, Source
from nexa_core.records import Row, State, content_hash

__all__ = ["MIXED", "MixSource", "Screen", "count_wanted", "make_tables", "screen_rows"]

MIXED = "mixed_from"
"""The column that says which file a row was mixed in from; null for a run's own rows."""
_KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
_TURN = pa.struct([(key, pa.string()) for key in _KEYS])


@dataclass(frozen=True)
class MixSource:
    """A file of other training data: messages, or prompt and completion, one row each."""

    path: str
    licence: str
    share: float
    source: Source
    place: Place | None = None

    def as_json(self) -> dict[str, Any]:
        """What the manifest and the card say of it, with the file's SHA-256."""
        told = {"path": self.path, "licence": self.licence, "share": self.share}
        return {**told, "sha256": fingerprint(self.source)}

    def draw(self, seed: int, count: int) -> list[Row]:
        """At most `count` rows, by the hash of seed and row: `id`, `prompt`, `completion`, tools.

        Raises:
            SourceError: A row has neither form, or cannot be read.
        """
        rows = (SourceRow(*_identify(row), row) for row in self._read())
        return [{**drawn.columns, "id": drawn.row_id} for drawn in sample_rows(rows, seed, count)]

    def _read(self) -> Iterator[Row]:
        for number, row in enumerate(self.source.rows(), 1):
            problem = str(row) if isinstance(row, Exception) else ""
            found = None if isinstance(row, Exception) else _read_pair(row)
            if found is None:
                shown = problem or "it has neither `messages` nor `prompt` and `completion`"
                raise SourceError(
                    f"Row {number} of '{self.path}' cannot be mixed in: {shown}.",
                    "Give JSONL or Parquet with messages that end with an answer, or with pairs.",
                    self.place,
                )
            yield found


@dataclass(frozen=True)
class Screen:
    """A check that rows of other data must pass, as the pipeline's own rows did."""

    id: str
    check: Check
    options: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What decides about mixed rows."""
        return {"check": self.id, "options": dict(self.options)}


def screen_rows(table: pa.Table, screens: Sequence[Screen]) -> pa.Table:
    """The rows of `make_tables`, those rejected that fail a screen, with its id as the reason."""
    for screen in screens:
        with boundary(CheckError, f"The check '{screen.id}'"):
            failed = pc.fill_null(screen.check.score(table).failed, False)
        for name, value in (("state", State.REJECTED.value), ("reason", screen.id)):
            changed = pc.if_else(failed, pa.scalar(value), table[name])
            table = table.set_column(table.column_names.index(name), name, changed)
    return table


def count_wanted(share: float, shares: float, own: int) -> int:
    """How many rows make up `share` of a dataset that has `own` rows and `shares` of other data."""
    return round(own * share / (1 - shares))


def make_tables(
    rows: Sequence[Row], source: MixSource, prompt: str, completion: str
) -> Iterator[pa.Table]:
    """The drawn rows with the columns that packaging reads, texts and conversations apart."""
    for texts in (True, False):
        chosen = [row for row in rows if isinstance(row["prompt"], str) is texts]
        if not chosen:
            continue
        asked = pa.string() if texts else pa.list_(_TURN)
        identities = pa.array([f"{source.path}#{row['id']}" for row in chosen])
        yield pa.table(
            {
                prompt: pa.array([row["prompt"] for row in chosen], asked),
                completion: pa.array([row["completion"] for row in chosen], pa.string()),
                f"{completion}_tool_calls": _strings(chosen, "tool_calls"),
                f"{completion}_reasoning": _strings(chosen, "reasoning"),
                "tools": _strings(chosen, "tools"),
                "id": identities,
                "source_id": identities,
                "state": pa.array([State.ACCEPTED.value] * len(chosen)),
                "reason": pa.nulls(len(chosen), pa.string()),
                MIXED: pa.array([source.path] * len(chosen)),
            }
        )


def _strings(rows: Sequence[Row], name: str) -> pa.Array:
    return pa.array([row.get(name) for row in rows], pa.string())


def _identify(row: Row) -> tuple[str, str]:
    identity = content_hash(dict(row), 16)
    return identity, identity


def _read_pair(row: Row) -> dict[str, Any] | None:
    asked, answer = row.get("prompt"), row.get("completion")
    tools = _as_text(row.get("tools"))
    if not row.get("messages") and not row.get("conversations"):
        if not asked or not answer:
            return None
        if isinstance(asked, str) and isinstance(answer, str):
            return {"prompt": asked, "completion": answer, "tools": tools}
        if not isinstance(asked, list):
            return None
        said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        row = {"messages": [*asked, *said]}
    parted = part_answer(row)
    if parted is row:
        return None
    turns = [_read_turn(turn) for turn in parted["messages"]]
    plain = len(turns) == 1 and turns[0]["role"] == "user"
    return {
        "prompt": turns[0]["content"] if plain else turns,
        "completion": parted["response"],
        "tool_calls": parted.get("response_tool_calls"),
        "reasoning": parted.get("response_reasoning"),
        "tools": tools,
    }


def _read_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _as_text(turn.get(key)) for key in _KEYS}


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
