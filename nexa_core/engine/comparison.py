"""Compares two arms on the same items: their outcomes by id, and the paired test over them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nexa_core.errors import Place, UsageError, suggest
from nexa_core.records import content_hash
from nexa_core.stats import PairedComparison, compare_pairs

__all__ = ["Compared", "compare_files", "compare_outcomes"]

Outcomes = Mapping[str, bool]
"""Whether an arm was right, by item id."""


@dataclass(frozen=True)
class Compared:
    """Arm A against arm B on the items both have; `only_a` and `only_b` count the others."""

    arm_a: str
    arm_b: str
    pairs: PairedComparison
    only_a: int
    only_b: int
    item_hash: str

    def as_json(self) -> dict[str, Any]:
        """The comparison as `--json` and `comparison.json` print it: b = right in A only."""
        return {
            "arm_a": self.arm_a,
            "arm_b": self.arm_b,
            **self.pairs.as_json(),
            "only_a": self.only_a,
            "only_b": self.only_b,
            "item_hash": self.item_hash,
        }


def compare_outcomes(arm_a: str, a: Outcomes, arm_b: str, b: Outcomes) -> Compared:
    """The paired comparison over the ids that both arms have."""
    shared = sorted(a.keys() & b.keys())
    table = {(x, y): 0 for x in (True, False) for y in (True, False)}
    for identity in shared:
        table[a[identity], b[identity]] += 1
    pairs = compare_pairs(
        table[True, True], table[True, False], table[False, True], table[False, False]
    )
    only_a, only_b = len(a) - len(shared), len(b) - len(shared)
    return Compared(arm_a, arm_b, pairs, only_a, only_b, content_hash(shared))


def compare_files(
    a: Path,
    b: Path | None = None,
    a_field: str | None = None,
    b_field: str | None = None,
    on: str = "id",
    field: str = "correct",
) -> Compared:
    """Compare two files of outcomes, or two fields of one; JSON lines (.gz, .zst) or Parquet.

    Fields may be dotted paths. An outcome is true, false, 1 or 0.

    Raises:
        UsageError: A file cannot be read, a field is missing or no outcome, an id comes twice, the
            files share no id, or one file is compared with itself.
    """
    a_field, b_field = a_field or field, b_field or field
    if b is None and a_field == b_field:
        raise UsageError(
            f"'{a}' would be compared with itself.",
            "Name a second file, or two fields of this one with --a-field and --b-field.",
        )
    other = b or a
    first, second = read_outcomes(a, on, a_field), read_outcomes(other, on, b_field)
    if not first.keys() & second.keys():
        raise UsageError(
            f"'{a}' and '{other}' have no '{on}' in common.", "Name the shared column with --on."
        )
    names = (a_field, b_field) if other == a else (str(a), str(other))
    return compare_outcomes(names[0], first, names[1], second)


def read_outcomes(path: Path, on: str, field: str) -> dict[str, bool]:
    """The outcome of every row by its id, as text. Errors as in `compare_files`."""
    found: dict[str, bool] = {}
    for number, row in _read_rows(path):
        place = Place(str(path), number)
        identity = str(_look_up(row, on, place))
        if identity in found:
            raise UsageError(f"The {on} '{identity}' comes a second time.", "", place)
        value = _look_up(row, field, place)
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise UsageError(
                f"'{field}' is {json.dumps(value, default=str)[:60]}, which is no outcome.",
                "It must be true or false.",
                place,
            )
        found[identity] = bool(value)
    if not found:
        raise UsageError(f"'{path}' holds no row.")
    return found


def _look_up(row: Any, field: str, place: Place) -> Any:
    value = _descend(row, field)
    if value is None:
        known = list(row) if isinstance(row, Mapping) else []
        near = suggest(field, known)
        raise UsageError(
            f"The row has no '{field}'. It has: {', '.join(map(str, known)) or 'nothing'}.",
            f"Did you mean '{near}'?" if near else "Dotted paths reach inside: 'model.is_correct'.",
            place,
        )
    return value


def _descend(value: Any, field: str) -> Any:
    """The value at a dotted path; a key that holds the dots itself is taken first."""
    if not isinstance(value, Mapping):
        return None
    if field in value:
        return value[field]
    head, dot, rest = field.partition(".")
    return _descend(value.get(head), rest) if dot else None


def _read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Every row with its number, counted from 1."""
    if not path.is_file():
        raise UsageError(
            f"'{path}' is no file.", "Name a .jsonl, .jsonl.gz, .jsonl.zst or .parquet."
        )
    if path.suffix == ".parquet":
        yield from enumerate(_read_parquet(path), start=1)
        return
    with _open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as cause:
                raise UsageError(
                    f"This line is no JSON: {cause}.", "", Place(str(path), number)
                ) from cause


def _read_parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as cause:
        raise UsageError(f"'{path}' is no readable Parquet file: {cause}.") from cause


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        import zstandard

        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
        return io.TextIOWrapper(stream, encoding="utf-8")
    return path.open(encoding="utf-8")
