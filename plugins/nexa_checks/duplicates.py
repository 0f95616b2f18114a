"""The set check of exact duplicates, and the sorted digests it remembers rows by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Column, as_array, read_text, require_option
from nexa_checks.scans import view_text
from nexa_checks.verdicts import pass_or_fail
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import DuplicateOptions

Digests = npt.NDArray[Any]
OpenRows: TypeAlias = Callable[[str], Iterable[pa.Table]]
_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """The digests of all rows so far, in sorted runs of falling size."""

    runs: tuple[Digests, ...] = ()

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Which of the digests, sorted, are among those seen."""
        found = np.zeros(len(digests), bool)
        for run in self.runs:
            place = np.minimum(np.searchsorted(run, digests), len(run) - 1)
            found |= run[place] == digests
        return found

    def add(self, digests: Digests) -> Seen:
        """These and the sorted, new `digests`; a run is merged once the next has half its size."""
        runs = [*self.runs, digests] if len(digests) else list(self.runs)
        while len(runs) > 1 and len(runs[-1]) * 2 > len(runs[-2]):
            runs[-2:] = [np.sort(np.concatenate(runs[-2:]), kind="stable")]
        return Seen(tuple(runs))


class ExactDuplicates:
    """Fails a row whose text an earlier row has; rows without text are left out."""

    def __init__(self, options: DuplicateOptions, asker: str = "check 'exact_duplicates'") -> None:
        self.asker = asker
        self.columns = options.columns or (require_option(options.field, "field", asker),)
        self.ignore_case, self.ignore_space = options.ignore_case, options.ignore_space
        self.earlier = open_earlier(options.against, options.open_rows, asker)
        self._begin: Seen | None = None

    def start(self) -> Seen:
        if self._begin is None:
            state = Seen()
            for table in (table for rows in self.earlier for table in rows):
                state, _ = self.fold(state, table)
            self._begin = state
        return self._begin

    def fold(self, state: Seen, table: pa.Table) -> tuple[Seen, ScoreColumns]:
        columns = [self._normalise(read_text(table, name, self.asker)) for name in self.columns]
        valid = as_array(columns[0].is_valid()).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(valid)
        digests = _digest_rows(columns)[rows]
        order = np.argsort(digests, kind="stable")
        ordered = digests[order]
        repeated = np.zeros(len(rows), bool)
        repeated[1:] = ordered[1:] == ordered[:-1]
        known = state.holds(ordered)
        failed = np.zeros(len(table), bool)
        failed[rows[order]] = repeated | known
        verdict = pa.array(failed, pa.bool_(), mask=~valid)
        return state.add(ordered[~(repeated | known)]), pass_or_fail(
            verdict, "same as an earlier row"
        )

    def _normalise(self, text: Column) -> Column:
        if self.ignore_case:
            text = pc.utf8_lower(text)
        if self.ignore_space:
            spaced = pc.replace_substring_regex(text, r"[\s\pZ\x{85}\x1c-\x1f]+", " ")
            text = pc.utf8_trim_whitespace(spaced)
        return text


def open_earlier(
    names: Sequence[str] | None, open_rows: OpenRows | None, asker: str
) -> list[Iterable[pa.Table]]:
    """The rows of earlier runs and files by name, opened before anything is paid for.

    Raises:
        UsageError: There is no pipeline around that could find them.
    """
    if names and open_rows is None:
        raise UsageError(f"The {asker} cannot open '{names[0]}' outside of a pipeline.", "")
    return [open_rows(name) for name in names or () if open_rows is not None]


def _digest_rows(columns: Sequence[Column]) -> Digests:
    """One 16-byte BLAKE2b digest per row, over those of its columns where there are several."""
    each = [_digest_column(column) for column in columns]
    if len(each) == 1:
        return each[0]
    joined = np.stack(each, axis=1).view(f"S{_WIDTH * len(each)}").ravel()
    return _pack(
        blake2b(row.ljust(_WIDTH * len(each), b"\0"), digest_size=_WIDTH).digest() for row in joined
    )


def _digest_column(column: Column) -> Digests:
    """Digests of the UTF-8 bytes of each text; a null counts as a text of its own kind."""
    return _pack(digest for chunk in column.chunks for digest in _digest_chunk(chunk))


def _digest_chunk(chunk: Any) -> list[bytes]:
    offsets, data = view_text(chunk)
    content, bounds = memoryview(data.tobytes()), offsets.tolist()
    valid = chunk.is_valid().to_pylist() if chunk.null_count else [True] * len(chunk)
    return [
        blake2b(content[low:high], digest_size=_WIDTH).digest() if there else bytes(_WIDTH)
        for low, high, there in zip(bounds, bounds[1:], valid, strict=False)
    ]


def _pack(digests: Any) -> Digests:
    return np.frombuffer(b"".join(digests), f"S{_WIDTH}")
