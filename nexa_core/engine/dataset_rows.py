"""Sorts rows of committed shards into train, validation and what is left out, source by source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.engine.candidates import Choosing, choose
from nexa_core.engine.items import normalise_text
from nexa_core.engine.mixing import MIXED, MixSource, Screen
from nexa_core.engine.sources import as_text
from nexa_core.engine.splitting import place_source
from nexa_core.errors import UsageError, boundary
from nexa_core.protocols import Exporter
from nexa_core.records import State, canonical_json, content_hash
from nexa_core.templates import TemplateError, compile_text

__all__ = [
    "DUPLICATE",
    "EVALUATION_MATCH",
    "KEPT_COLUMNS",
    "Packaging",
    "RowSorter",
    "SortedRows",
    "accepted_sources",
    "find_cutoff",
    "read_rows",
    "read_shards",
    "render_prompts",
]

KEPT_COLUMNS = ("id", "source_id", "sample", "scores", "flags", "provenance")
"""Columns that every packaged row keeps beside those it is trained on."""
EVALUATION_MATCH = "evaluation_match"
DUPLICATE = "duplicate"
BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Packaging:
    """How rows become training data. `validation` is the share of sources held out for validation.

    `prompt` and `completion` name the columns that ask and answer, `template` renders what a
    student is asked from the row's columns and `prompt`; `evaluation` holds the normalised
    instructions of evaluation items, which no packaged row may ask. `best` keeps one answer to a
    question, by the mean of the scores named `rank`; `options` are the format's own. `most` is how many accepted
    rows of a run are wanted, in order: a pilot may have accepted more than scale was to.
    """

    exporter: Exporter
    format: str
    prompt: str
    completion: str
    template: str
    validation: float = 0.05
    seed: int = 0
    evaluation: frozenset[str] = frozenset()
    evaluation_name: str | None = None
    best: bool = False
    rank: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    mix: tuple[MixSource, ...] = ()
    screens: tuple[Screen, ...] = ()
    most: int | None = None

    @property
    def choosing(self) -> Choosing | None:
        """How to choose among the answers to one question, None where every one is kept."""
        margin = getattr(self.exporter, "margin", None)
        return Choosing(self.rank, margin) if self.best or margin is not None else None

    def as_json(self) -> dict[str, Any]:
        """What decides the dataset beside its rows."""
        chosen = {"rank": list(self.rank), "best": self.best} if self.choosing else {}
        return {
            **({"options": dict(self.options)} if self.options else {}),
            **chosen,
            **({"mix": [each.as_json() for each in self.mix]} if self.mix else {}),
            **({"screens": [each.as_json() for each in self.screens]} if self.screens else {}),
            "format": self.format,
            "prompt_field": self.prompt,
            "completion_field": self.completion,
            "prompt_template": self.template,
            "chat": self.exporter.chat,
            "validation": self.validation,
            "seed": self.seed,
            "evaluation_items": self.evaluation_name,
            "evaluation_hash": content_hash(sorted(self.evaluation), 16),
            **({"most": self.most} if self.most is not None else {}),
        }


def read_rows(
    path: Path, schema: pa.Schema, columns: Sequence[str], whole: bool = False
) -> Iterator[pa.Table]:
    """The rows of a shard in pieces, with every column of the schema, null where it has none.

    `whole` gives them in one piece.
    """
    fields = [schema.field(name) for name in columns]
    wanted = pa.schema(fields)
    file = pq.ParquetFile(path)
    own = [name for name in columns if name in file.schema_arrow.names]
    size = max(file.metadata.num_rows, 1) if whole else BATCH_ROWS
    for batch in file.iter_batches(batch_size=size, columns=own):
        arrays = [
            _as_type(batch[f.name], f.type) if f.name in own else pa.nulls(len(batch), f.type)
            for f in fields
        ]
        yield pa.table(arrays, schema=wanted)


def _as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in the type that all shards agree on; text, where they agree on none, as JSON."""
    if values.type == kind:
        return values
    if pa.types.is_string(kind) and not pa.types.is_null(values.type):
        return as_text(values.to_pylist())
    return values.cast(kind)


def read_shards(
    shards: Sequence[Path],
    schema: pa.Schema,
    columns: Sequence[str],
    most: int | None = None,
    whole: bool = False,
) -> Iterator[pa.Table]:
    """`read_rows` of shards in order; rows accepted after the first `most` are surplus."""
    for path in shards:
        for table in read_rows(path, schema, columns, whole):
            if most is not None:
                accepted = pc.equal(table["state"], State.ACCEPTED.value)
                found = pc.sum(accepted).as_py() or 0
                yield _stamp_surplus(table, accepted, most) if found > most else table
                most = max(0, most - found)
            else:
                yield table


def _stamp_surplus(table: pa.Table, accepted: pa.ChunkedArray, most: int) -> pa.Table:
    number = pc.cumulative_sum(accepted.cast(pa.int64()))
    beyond = pc.and_(accepted, pc.greater(number, most))
    state = pc.if_else(beyond, pa.scalar(State.SURPLUS.value), table["state"])
    return table.set_column(table.column_names.index("state"), "state", state)


def find_cutoff(shards: Sequence[Path], packaging: Packaging) -> float:
    """Sources placed below it are validation: about the wanted share, never none and never all."""
    if packaging.validation <= 0:
        return 0.0
    lowest, highest = 2.0, -1.0
    for source_id in accepted_sources(shards, packaging):
        place = place_source(packaging.seed, source_id)
        lowest, highest = min(lowest, place), max(highest, place)
    return min(max(packaging.validation, lowest + 2**-53), highest)


def accepted_sources(shards: Sequence[Path], packaging: Packaging) -> Iterator[str]:
    """The source of every accepted row that is wanted, in order."""
    schema = pa.schema([("state", pa.string()), ("source_id", pa.string())])
    for table in read_shards(shards, schema, schema.names, packaging.most):
        accepted = table.filter(pc.equal(table["state"], State.ACCEPTED.value))
        yield from accepted["source_id"].to_pylist()


@dataclass(frozen=True)
class SortedRows:
    """The rows of one table by where they go."""

    train: pa.Table
    validation: pa.Table
    left_out: pa.Table


@dataclass(frozen=True)
class RowSorter:
    """Sorts rows into train, validation and what is left out with its reason."""

    packaging: Packaging
    is_held_out: Callable[[str], bool]
    seen: set[bytes] | None = None
    """Digests of the texts so far, where equal texts are kept once."""

    def sort(self, table: pa.Table) -> SortedRows:
        """Every row of the table, each in one of the three."""
        settings, columns = self.packaging, table.column_names
        if settings.choosing is not None:
            table = choose(table, settings.choosing, settings.prompt, settings.completion)
        accepted = pc.equal(table["state"], State.ACCEPTED.value)
        rest = table.filter(pc.invert(accepted)).select(columns)
        table = table.filter(accepted)
        with boundary(UsageError, f"The format '{settings.format}'"):
            prepared = self._prepare(table)
            exported = settings.exporter.columns(prepared)
        reason = self._objections(table, exported)
        if self.seen is not None:
            reason = self._find_duplicates(prepared, reason, self.seen)
        exported = _drop(exported, "reason")
        kept = pc.is_null(reason)
        held = _mark(self.is_held_out, table["source_id"])
        whole = _join(exported, table)
        if settings.mix:
            given = (
                table[MIXED] if MIXED in table.column_names else pa.nulls(len(table), pa.string())
            )
            whole = whole.append_column(MIXED, given)
        dropped = _with_reason(table, reason).filter(pc.invert(kept)).select(columns)
        return SortedRows(
            whole.filter(pc.and_(kept, pc.invert(held))),
            whole.filter(pc.and_(kept, held)),
            pa.concat_tables([rest, dropped]),
        )

    def _prepare(self, table: pa.Table) -> pa.Table:
        """The table with `prompt` and `completion` ready for training, null where there is none."""
        settings = self.packaging
        made = {
            "prompt": render_prompts(table, settings.prompt, settings.template),
            "completion": _trim(table[settings.completion]),
        }
        for name in ("reasoning", "tool_calls"):
            if (given := f"{settings.completion}_{name}") in table.column_names:
                made[name] = table[given]
        if settings.mix:  # so that own and other rows have one schema
            for name in {"tools", "tool_calls"} - made.keys() - set(table.column_names):
                made[name] = pa.nulls(len(table), pa.string())
        for name, column in made.items():
            table = _drop(table, name).append_column(name, column)
        return table

    def _find_duplicates(self, prepared: pa.Table, reason: pa.Array, seen: set[bytes]) -> pa.Array:
        """The reasons, with one for rows whose whole text was there before."""
        names = ("prompt", "completion", "tool_calls", "rejected")
        texts = prepared.select([n for n in names if n in prepared.column_names]).to_pylist()
        found: list[str | None] = []
        for why, row in zip(reason.to_pylist(), texts, strict=True):
            if why is None:
                parts = {name: value for name, value in row.items() if value is not None}
                digest = hashlib.blake2b(canonical_json(parts).encode(), digest_size=16).digest()
                found.append(DUPLICATE if digest in seen else None)
                seen.add(digest)
            else:
                found.append(why)
        return pa.array(found, pa.string())

    def _objections(self, table: pa.Table, exported: pa.Table) -> pa.Array:
        """Why an accepted row cannot be packaged, null where it can."""
        reason = pa.nulls(len(table), pa.string())
        told = "reason" in exported.column_names
        for name in () if told else reversed(exported.column_names):
            reason = pc.if_else(pc.is_null(exported[name]), pa.scalar(f"no_{name}"), reason)
        for objecting in (exported, table):
            name = "reason" if objecting is exported else "unchosen"
            if name in objecting.column_names:
                reason = pc.coalesce(objecting[name], reason)
        repeats = _mark(
            lambda asked: normalise_text(_last_text(asked)) in self.packaging.evaluation,
            table[self.packaging.prompt],
        )
        return pc.if_else(repeats, pa.scalar(EVALUATION_MATCH), reason)


def render_prompts(table: pa.Table, column: str, template: str) -> pa.Array | pa.ChunkedArray:
    """What each row asks: the template over its columns and `prompt`; conversations as they are.

    Raises:
        UsageError: The template is none, or needs what a row does not have.
    """
    if pa.types.is_nested(table.schema.field(column).type):
        return table[column]
    asked = _trim(table[column]).to_pylist()
    try:
        text = compile_text(template)
        names = sorted((text.variables - {"prompt"}) & set(table.column_names))
        rows = table.select(names).to_pylist() if names else [{}] * len(table)
        texts = [
            None if prompt is None else text.render({**row, "prompt": prompt})
            for prompt, row in zip(asked, rows, strict=True)
        ]
    except TemplateError as cause:
        raise UsageError(
            f"The template '{template}' makes no prompt: {cause}.",
            "It may insert `prompt` and any column of the rows.",
        ) from cause
    return pa.array(texts, pa.string())


def _drop(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns(name) if name in table.column_names else table


def _trim(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text without white space around it, null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _mark(holds: Callable[[Any], bool], column: pa.ChunkedArray) -> pa.Array:
    return pa.array(
        [value is not None and holds(value) for value in column.to_pylist()], pa.bool_()
    )


def _last_text(asked: Any) -> str:
    """The text that asks: the prompt itself, or the last turn of a conversation."""
    if isinstance(asked, str):
        return asked
    return str(asked[-1].get("content") or "") if isinstance(asked, list) and asked else str(asked)


def _join(exported: pa.Table, table: pa.Table) -> pa.Table:
    for name in KEPT_COLUMNS:
        if name in table.column_names and name not in exported.column_names:
            exported = exported.append_column(table.field(name), table[name])
    return exported


def _with_reason(table: pa.Table, reason: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("reason"), "reason", reason)
