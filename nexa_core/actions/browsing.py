"""The committed rows of a run, by position: a shard is read when one of its rows is asked for, never before.

Which rows lie where follows from the manifests alone, so that a million rows are counted, filtered
and paged through without being read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from nexa_core.actions.watching import name_texts
from nexa_core.errors import ManifestError
from nexa_core.records import State
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import ShardEntry, read_manifest
from nexa_core.store.shards import read_shard

__all__ = ["ALL", "Filter", "RowLine", "RowList", "Rows", "open_rows"]

GIST = 240
"""Characters of a text that a list keeps."""
HELD_SHARDS = 12
LARGEST_HELD = 64_000_000
"""Bytes of a shard that is remembered whole."""
_ROW_FACTS = {"id", "source_id", "sample", "attempt", "parent_id", "scores", "flags", "state"}
_OWN = frozenset(_ROW_FACTS | {"reason", "provenance"})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted: of a folder (`iterations/02`, `scale`), in a state, for a reason; None is any."""

    unit: str | None = None
    state: str | None = None
    reason: str | None = None


ALL = Filter()


@dataclass(frozen=True, slots=True)
class RowLine:
    """A row in a list: what became of it, and the beginning of its texts, in the order of the steps."""

    id: str
    unit: str
    state: str
    reason: str
    texts: tuple[str, ...]
    problem: str = ""
    """Why the row cannot be shown, where it cannot."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A committed shard, and where its rows lie."""

    folder: ShardFolder
    entry: ShardEntry

    @property
    def path(self) -> Path:
        return self.folder.shards / f"{self.entry.shard:05d}.parquet"

    def count(self, wanted: Filter) -> int:
        if wanted.unit not in (None, self.folder.name):
            return 0
        if wanted.reason is not None:
            return self.entry.reasons.get(wanted.reason, 0)
        if wanted.state is not None:
            return self.entry.rows.get(wanted.state, 0)
        return sum(self.entry.rows.values())


class Rows:
    """A run's rows as they are committed now. `texts` are the columns a list shows.

    Not safe to share between threads.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.texts = name_texts(run.record.get("pipeline", {}))
        self._held: OrderedDict[tuple[Path, Filter], list[RowLine]] = OrderedDict()
        self._last: tuple[Path, Any] | None = None
        self._places: list[_Place] = []
        self.refresh()

    def refresh(self) -> bool:
        """Look for shards committed since; whether there are any."""
        places = [
            _Place(folder, entry)
            for folder in self.run.shard_folders()
            for entry in read_manifest(folder.path)
        ]
        changed = len(places) != len(self._places)
        self._places = places
        return changed

    @property
    def units(self) -> list[str]:
        """The folders that hold rows, in order."""
        return list(dict.fromkeys(place.folder.name for place in self._places))

    def count_states(self, unit: str | None = None) -> dict[str, int]:
        """Rows by state."""
        found: Counter[str] = Counter()
        for place in self._within(unit):
            found.update(place.entry.rows)
        return {state: found[state] for state in State if found[state]}

    def count_reasons(self, unit: str | None = None) -> dict[str, int]:
        """Rows by why they were rejected or failed, the most frequent first."""
        found: Counter[str] = Counter()
        for place in self._within(unit):
            found.update(place.entry.reasons)
        return dict(found.most_common())

    def select(self, wanted: Filter = ALL) -> RowList:
        """The rows that a filter leaves, in the order (unit, shard, row)."""
        places = [(place, place.count(wanted)) for place in self._places]
        return RowList(self, wanted, [(place, count) for place, count in places if count])

    def find(self, ids: Iterable[str], unit: str | None = None) -> list[dict[str, Any]]:
        """Whole rows by their ids, in the order of the ids; those that are not there are left out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = list(dict.fromkeys(ids))
        found: dict[str, dict[str, Any]] = {}
        for place in self._within(unit):
            if len(found) == len(wanted):
                break
            column = read_shard(place.path, columns=["id"])["id"]
            if pc.any(pc.is_in(column, value_set=pa.array(wanted))).as_py():
                table = read_shard(place.path)
                kept = table.filter(pc.is_in(table["id"], value_set=pa.array(wanted)))
                found |= {row["id"]: _whole(row, place) for row in kept.to_pylist()}
        return [found[one] for one in wanted if one in found]

    def read(self, place: _Place) -> Any:
        """A shard with every column; the last one read is at hand, unless it is large."""
        path, table = self._last or (None, None)
        if path != place.path:
            table = read_shard(place.path)
            self._last = (place.path, table) if table.nbytes <= LARGEST_HELD else None
        return table

    def _within(self, unit: str | None) -> list[_Place]:
        return [place for place in self._places if unit in (None, place.folder.name)]

    def hold(self, place: _Place, wanted: Filter) -> list[RowLine]:
        """The rows of one shard that a filter leaves; the last few shards are remembered."""
        key = (place.path, wanted)
        if key not in self._held:
            self._held[key] = _read_lines(place, wanted, self.texts)
            while len(self._held) > HELD_SHARDS:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


class RowList:
    """Rows by position from 0; nothing is read before it is asked for."""

    def __init__(self, rows: Rows, wanted: Filter, places: Sequence[tuple[_Place, int]]) -> None:
        self.filter = wanted
        self._rows = rows
        self._places = [place for place, _ in places]
        self._ends = list(accumulate(count for _, count in places))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def page(self, start: int, count: int) -> list[RowLine]:
        """The rows from `start` on, at most `count` of them."""
        lines: list[RowLine] = []
        end = min(start + count, len(self))
        while (position := start + len(lines)) < end:
            index, first = self._locate(position)
            stop = min(self._ends[index], end)
            held = self._rows.hold(self._places[index], self.filter)
            taken = held[position - first : stop - first]
            # A shard whose file went bad may hold fewer rows than its manifest line says.
            lines += [*taken, *[_missing(self._places[index])] * (stop - position - len(taken))]
        return lines

    def whole(self, position: int) -> dict[str, Any]:
        """One row with everything that is stored of it.

        Raises:
            ManifestError: Its shard cannot be read.
        """
        index, first = self._locate(position)
        place = self._places[index]
        table = _choose(self._rows.read(place), self.filter)
        if position - first >= table.num_rows:
            raise ManifestError(f"Row {position + 1} is not in '{place.path.name}'.", _REDO)
        return _whole(table.slice(position - first, 1).to_pylist()[0], place)

    def _locate(self, position: int) -> tuple[int, int]:
        """The shard that holds a position, and the position of its first row."""
        index = bisect_right(self._ends, position)
        return index, self._ends[index - 1] if index else 0


_REDO = "`nexa resume` redoes damaged shards."


def open_rows(run_folder: Path) -> Rows:
    """The committed rows of a run."""
    return Rows(Run(run_folder))


def _read_lines(place: _Place, wanted: Filter, texts: Sequence[str]) -> list[RowLine]:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(place.path)
        shown = _shown_columns(schema, texts)
        names = [n for n in ("id", "state", "reason") if n in schema.names]
        table = read_shard(place.path, columns=[*names, *shown])
    except (ManifestError, OSError, ValueError) as error:
        told = str(error).partition("\n")[0]
        known = isinstance(error, ManifestError)
        problem = told if known else f"'{place.path.name}' cannot be used: {told}. {_REDO}"
        return [RowLine("", place.entry.unit, "", "", (), problem)] * place.count(wanted)
    table = _choose(table, wanted)
    columns = [_gists(table[name]) for name in shown]
    return [
        RowLine(row_id, place.entry.unit, state, reason or "", tuple(cells))
        for row_id, state, reason, *cells in zip(
            *(table[name].to_pylist() for name in ("id", "state", "reason")), *columns, strict=True
        )
    ]


def _shown_columns(schema: Any, texts: Sequence[str]) -> list[str]:
    """The steps' columns that a shard has; the first texts of the source before them, where they fit."""
    import pyarrow.types as types

    strings = [field.name for field in schema if types.is_string(field.type)]
    written = [name for name in texts if name in schema.names]
    parts = tuple(f"{name}_" for name in written)
    source = [n for n in strings if n not in _OWN and n not in written and not n.startswith(parts)]
    return [*source[: max(0, 2 - len(written))], *written]


def _gists(column: Any) -> list[str]:
    """The beginnings of a column's texts, so that long ones never leave Arrow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return [str(value)[:GIST] for value in column.to_pylist()]
    return [text or "" for text in pc.utf8_slice_codeunits(column, 0, GIST).to_pylist()]


def _choose(table: Any, wanted: Filter) -> Any:
    """The rows of a shard that a filter leaves; a reason stands for every one that only adds details."""
    import pyarrow.compute as pc

    if wanted.reason is not None:
        detailed = pc.starts_with(table["reason"], f"{wanted.reason}: ")
        return table.filter(pc.or_(pc.equal(table["reason"], wanted.reason), detailed))
    if wanted.state is not None:
        return table.filter(pc.equal(table["state"], wanted.state))
    return table


def _whole(row: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    return {**row, "unit": place.entry.unit}


def _missing(place: _Place) -> RowLine:
    return RowLine("", place.entry.unit, "", "", (), f"'{place.path.name}' is not whole. {_REDO}")
