"""Writes the rows of a dataset, part by part, and counts what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from nexa_core.engine.candidates import NOT_CHOSEN
from nexa_core.engine.dataset_files import JsonLines, SplitFiles
from nexa_core.engine.dataset_rows import (
    DUPLICATE,
    EVALUATION_MATCH,
    KEPT_COLUMNS,
    RowSorter,
    SortedRows,
)
from nexa_core.engine.mixing import MIXED, MixSource, count_wanted, make_tables, screen_rows
from nexa_core.records import State, name_reason

__all__ = ["DatasetWriter"]


class DatasetWriter:
    """The files of a dataset under way. `columns` are those of a row that is trained on."""

    def __init__(self, folder: Path) -> None:
        self._files = ExitStack()
        self._train = SplitFiles(folder / "data", "train")
        self._validation = SplitFiles(folder / "data", "validation")
        self._left_out = SplitFiles(folder / "rejected", "rejected")
        self._lines = JsonLines(folder / "train.jsonl")
        self._states: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._schema: pa.Schema | None = None
        self.mixed: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        for file in (self._train, self._validation, self._left_out, self._lines):
            self._files.enter_context(file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, trace)

    @property
    def columns(self) -> list[str]:
        return list(self._schema.names) if self._schema else []

    @property
    def reasons(self) -> dict[str, int]:
        """Why rows of the runs were left out, the most frequent first."""
        return dict(self._reasons.most_common())

    @property
    def rows(self) -> dict[str, int]:
        """Where the rows went. `train` and `validation` hold those that were mixed in, too."""
        matches, repeats = self._reasons[EVALUATION_MATCH], self._reasons[DUPLICATE]
        unchosen = sum(self._reasons[reason] for reason in NOT_CHOSEN)
        left = self._states[State.ACCEPTED] - matches - repeats - unchosen
        return {
            "train": self._train.rows,
            "validation": self._validation.rows,
            "rejected": self._states[State.REJECTED],
            "failed": self._states[State.FAILED],
            "surplus": self._states[State.SURPLUS],
            "dropped_eval_matches": matches,
            "dropped_incomplete": left,
            "dropped_unchosen": unchosen,
            "dropped_duplicates": repeats,
        }

    def add(self, parts: SortedRows) -> None:
        """Write the sorted rows of a run."""
        self._keep(parts)
        self._left_out.write(parts.left_out)
        self._states.update(parts.left_out["state"].to_pylist())
        self._reasons.update(_heads(parts.left_out["reason"]))

    def mix(self, sources: tuple[MixSource, ...], sorter: RowSorter) -> None:
        """Put other data among the runs' rows, each by its share of all."""
        own, shares = self._train.rows + self._validation.rows, sum(s.share for s in sources)
        settings = sorter.packaging
        for source in sources:
            wanted = count_wanted(source.share, shares, own)
            dropped: Counter[str] = Counter()
            before = self._train.rows + self._validation.rows
            drawn = source.draw(settings.seed, wanted)
            for table in make_tables(drawn, source, settings.prompt, settings.completion):
                parts = sorter.sort(screen_rows(table, settings.screens))
                self._keep(parts)
                dropped.update(_heads(parts.left_out["reason"]))
            taken = self._train.rows + self._validation.rows - before
            told = {"rows": taken, "wanted": wanted, "dropped": dict(dropped)}
            self.mixed.append({**source.as_json(), **told})

    def _keep(self, parts: SortedRows) -> None:
        train, validation = map(self._align, (parts.train, parts.validation))
        self._train.write(train)
        self._validation.write(validation)
        self._lines.write(train.drop_columns(_untrained(train)))

    def _align(self, table: pa.Table) -> pa.Table:
        """The rows with the columns of the first part: what other data does not have is null."""
        if self._schema is None:
            self._schema = table.schema
        arrays = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in self._schema
        ]
        return pa.table(arrays, schema=self._schema)


def _untrained(table: pa.Table) -> list[str]:
    kept = (*KEPT_COLUMNS, MIXED)
    return [name for name in kept if name != "id" and name in table.column_names]


def _heads(reasons: Any) -> Iterator[str]:
    """Reasons without their details, so that they can be counted."""
    for reason in reasons.to_pylist():
        if reason is not None:
            yield name_reason(reason)
