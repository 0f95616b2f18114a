"""Where rows come from: files, frames and shipped sets, read as a stream that can be read again."""

from __future__ import annotations

import gzip
import hashlib
import heapq
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
import pyarrow as pa

from nexa_core.conversations import flatten_column, part_answer
from nexa_core.errors import Place, SourceError
from nexa_core.pipeline import Pipeline
from nexa_core.protocols import Source
from nexa_core.records import Row, canonical_bytes, canonical_json, floats_in, mend_text

OWN_COLUMNS = frozenset(
    [
        "source_id",
        "sample",
        "attempt",
        "parent_id",
        "scores",
        "flags",
        "state",
        "reason",
        "provenance",
    ]
)
"""Columns that nexa adds to every row; `id` is nexa's too, and keeps the source's value."""


class SourceRow(NamedTuple):
    """One source row: its identity, its columns, or why it could not be read."""

    source_id: str
    row_id: str
    columns: Row
    error: str | None = None


class JsonLines:
    """A file of one JSON object a line, plain, `.gz` or `.zst`, local or at an fsspec URL."""

    def __init__(self, path: str) -> None:
        self.path = path

    def rows(self) -> Iterator[Row | Exception]:
        with open_bytes(self.path) as stream:
            for number, line in enumerate(stream, start=1):
                if not line.isspace():
                    yield _parse_line(line, number)


class ParquetFile:
    """A Parquet file, read a row group at a time."""

    def __init__(self, path: str) -> None:
        self.path = path

    def rows(self) -> Iterator[Row | Exception]:
        import pyarrow.parquet as pq

        try:
            with open_bytes(self.path, decompress=False) as stream:
                for batch in pq.ParquetFile(stream).iter_batches(batch_size=4096):
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as cause:
            raise SourceError(
                f"The source '{self.path}' is no readable Parquet file: {cause}.",
                "Write it again, or point source.path at another file.",
            ) from cause


@contextmanager
def open_bytes(path: str, decompress: bool = True) -> Iterator[IO[bytes]]:
    """A byte stream of a local file or an fsspec URL, decompressed by its `.gz` or `.zst` ending."""
    raw: IO[bytes]
    if "://" in path:
        import fsspec

        raw = fsspec.open(path, "rb").open()
    else:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below, whichever kind it is
    with raw:
        if decompress and path.endswith(".gz"):
            with gzip.open(raw) as stream:
                yield io.BufferedReader(stream)
        elif decompress and path.endswith(".zst"):
            import zstandard

            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield io.BufferedReader(stream, 1 << 20)
        else:
            yield raw


def open_source(
    path: str,
    folder: Path,
    place: Place | None = None,
    shipped: Callable[[str], Source | None] = lambda name: None,
) -> Source:
    """The source called `path`: a URL, a file under `folder`, or one that a plugin ships.

    Raises:
        SourceError: Nothing is there, or it is of no kind that can be read.
    """
    if "://" not in path:
        local = folder / path
        if not local.is_file():
            named = shipped(path)
            if named is not None:
                return named
            raise SourceError(
                f"The source '{path}' does not exist: looked for {local}.",
                "Set source.path to a .jsonl or .parquet file (.gz and .zst work too).",
                place,
            )
        path = str(local)
    stem = path.removesuffix(".gz").removesuffix(".zst")
    if stem.endswith((".jsonl", ".ndjson", ".json")):
        return JsonLines(path)
    if path.endswith((".parquet", ".pq")):
        return ParquetFile(path)
    raise SourceError(
        f"The source '{path}' is of a kind that cannot be read.",
        "Use .jsonl, .jsonl.gz, .jsonl.zst or .parquet.",
        place,
    )


def read_source(
    source: Source, id_column: str | None, renames: Mapping[str, str], place: Place | None = None
) -> Iterator[SourceRow]:
    """Every row of a source with its identity: the hash of its id column, else of its content.

    `renames` maps the pipeline's column names to the source's. A row that cannot be read keeps
    its place in the stream, with the error; its identity is then its position.
    """
    for position, row in enumerate(source.rows()):
        if isinstance(row, Exception):
            identity = _digest(f"unreadable row {position}")
            yield SourceRow(identity, identity, {}, f"unreadable: {row}")
            continue
        if position == 0:
            id_column = check_names(row, id_column, renames, place)
        yield _identify(row, id_column, renames, position)


def read_rows(source: Source, pipeline: Pipeline) -> Iterator[SourceRow]:
    """The rows of a source as a pipeline takes them: by its names, and conversations parted from answers.

    They are parted where neither a step nor a column brings the answers; the first row that can be read
    decides for all.
    """
    settings = pipeline.source
    rows = read_source(source, settings.id if settings else None, settings.map if settings else {})
    return rows if pipeline.generate_steps else _part_answers(rows, pipeline)


def _part_answers(rows: Iterator[SourceRow], pipeline: Pipeline) -> Iterator[SourceRow]:
    parts: bool | None = None
    for row in rows:
        if parts is None and row.error is None:
            parts = lacks_answer(row.columns, pipeline)
        yield row._replace(columns=part_answer(row.columns)) if parts else row


def lacks_answer(columns: Iterable[str], pipeline: Pipeline) -> bool:
    """Whether neither a step nor a column brings the answers, so that a conversation has to end with one."""
    return not pipeline.generate_steps and pipeline.answer_field(tuple(columns)) is None


def _identify(
    row: Row, id_column: str | None, renames: Mapping[str, str], position: int
) -> SourceRow:
    columns = dict(row)
    if renames:
        for theirs in renames.values():
            columns.pop(theirs, None)
        columns = {**{ours: row.get(theirs) for ours, theirs in renames.items()}, **columns}
    if id_column is None:
        identity = _digest_bytes(canonical_bytes(columns))
        return SourceRow(identity, identity, columns)
    value = row.get(id_column)
    columns.pop("id", None)
    if value is None:
        identity = _digest(f"row without id {position}")
        return SourceRow(
            identity, identity, columns, f"unreadable: the id column '{id_column}' is empty"
        )
    return SourceRow(_digest(str(value)), str(value), columns)


def check_names(
    row: Row, id_column: str | None, renames: Mapping[str, str], place: Place | None
) -> str | None:
    """Refuse a first row whose columns cannot be named so; the column of identities, None without one."""
    listed = ", ".join(row)
    for column in [*renames.values(), *([id_column] if id_column else [])]:
        if column not in row:
            raise SourceError(f"The source has no column '{column}'. It has: {listed}.", "", place)
    for column in row:
        if column in OWN_COLUMNS and column not in renames.values():
            raise SourceError(
                f"The source column '{column}' has the name of one of nexa's own.",
                f"Rename it: source.map: {{my_{column}: {column}}}.",
                place,
            )
    return id_column or ("id" if "id" in row else None)


def invent_rows(seed: int, unit: str, start: int, count: int) -> list[SourceRow]:
    """Rows of a pipeline without a source: identity from seed, iteration or scale, and index."""
    identities = (_digest(f"{seed}/{unit}/{index}") for index in range(start, start + count))
    return [SourceRow(identity, identity, {}) for identity in identities]


def sample_rows(rows: Iterable[SourceRow], seed: int, count: int) -> list[SourceRow]:
    """A random sample without replacement: the `count` rows of lowest hash(seed, row), in hash order.

    One streaming pass; memory for `count` rows.
    """
    keyed = ((_digest(f"{seed}:{row.source_id}"), n, row) for n, row in enumerate(rows))
    return [row for _, _, row in heapq.nsmallest(count, keyed)]  # no two have one n


def rows_table(rows: Sequence[SourceRow]) -> pa.Table:
    """Source rows as one table: their columns, then `id` and `source_id`."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(row.columns for row in rows)))
    arrays = [
        as_column(flatten_column(name, [row.columns.get(name) for row in rows])) for name in names
    ]
    arrays += [pa.array([row.row_id for row in rows]), pa.array([row.source_id for row in rows])]
    return pa.table(arrays, names=[*names, "id", "source_id"])


def fingerprint(source: Source) -> str:
    """A SHA-256 of a source: of a file's bytes, else of every row in order."""
    digest = hashlib.sha256()
    path = getattr(source, "path", None)
    if path is None:
        for row in source.rows():
            digest.update(
                f"{row if isinstance(row, Exception) else canonical_json(row)}\n".encode()
            )
        return digest.hexdigest()
    with open_bytes(str(path), decompress=False) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def as_column(values: Sequence[Any]) -> pa.Array:
    """Values as a column: of one type, or where they have no common one as text, in JSON."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # Rows that disagree on a type, and integers over 64 bits, keep their values as text.
        return as_text(values)


def as_text(values: Sequence[Any]) -> pa.Array:
    """A column of text: what is no text is written as JSON, and what JSON has not as Python says it."""
    written = [v if v is None or isinstance(v, str) else _write(v) for v in values]
    return pa.array(written, pa.string())


def _write(value: Any) -> str:
    try:
        return canonical_json(value)
    except TypeError:  # a date, bytes
        return str(value)


def _parse_line(line: bytes, number: int) -> Row | Exception:
    try:
        value = _parse_json(line)
    except (ValueError, RecursionError) as cause:
        return ValueError(f"line {number} is no JSON: {cause}")
    return value if isinstance(value, dict) else ValueError(f"line {number} is no JSON object")


def _parse_json(line: bytes) -> Any:
    try:
        value = orjson.loads(line)
    except ValueError:  # NaN, half characters, other encodings; or no JSON, and then json says why
        value = json.loads(line)
        # Half a character is what no text file can hold.
        return json.loads(mend_text(json.dumps(value, ensure_ascii=False)))
    # An integer over 64 bits comes as a float, rounded.
    floats = floats_in(value)
    is_long = floats and any(abs(number) >= 2**63 for number in floats)
    return json.loads(line) if is_long else value


class HeldRows:
    """Rows given in memory, as a source."""

    def __init__(self, data: Any) -> None:
        self.table = table_of(data)

    def rows(self) -> Iterator[Any]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from batch.to_pylist()


def table_of(data: Any) -> pa.Table:
    """Rows held in memory as one table: dicts, a DataFrame, an Arrow table or a `datasets.Dataset`."""
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "with_format") and hasattr(data, "data"):
        return data.with_format("arrow")[:]
    if hasattr(data, "to_arrow"):
        return data.to_arrow()
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return pa.Table.from_pandas(data, preserve_index=False)
    return pa.Table.from_pylist([dict(row) for row in data])


def _digest(text: str) -> str:
    return _digest_bytes(text.encode("utf-8", "surrogatepass"))


def _digest_bytes(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
