"""The check of contamination: rows that hold an evaluation item, also reworded in its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nexa_checks.columns import Array, Column, as_array, read_text, require_option
from nexa_checks.duplicates import open_earlier
from nexa_checks.shingles import Hashes, Indices, batches, hash_letter_sequences
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import DecontaminationOptions

ASKER = "check 'decontamination'"
QUESTIONS = ("instruction", "prompt", "question")
_LEAST = 24
_COUNTED = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand"
    "|million|dozen|half|twice"
)
_PLACEHOLDERS = (
    r"(?i)\b(?:(?:nums?|numbers?|digits?|int|integer|float|mask(?:ed)?|blank|value|[a-z])_?\d*"
    rf"|[nx]{{2,4}}|{_COUNTED})\b"
)
"""What may stand for a number, in English."""
_SLOT_BITS = 22
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Decontamination:
    """Fails a row that holds at least `share` of an item's sequences of `letters` letters.

    Letters alone are compared: white space, numbers, signs and case make no difference. They are
    compared as they are and without what may stand for a number, words for numbers and the usual
    placeholders; the larger share counts. Each column is compared by itself. The score is 1 − the
    largest share. Items with fewer than 24 letters are met only by a column that is their equal.
    """

    def __init__(self, options: DecontaminationOptions) -> None:
        self.columns = options.columns or tuple(
            dict.fromkeys(name for name in (options.prompt_field, options.field) if name)
        )
        require_option(self.columns, "field", ASKER)
        self.letters, self.share = options.letters, options.share
        texts = [*(options.evaluation_items or ())]
        for rows in open_earlier(options.items, options.open_rows, ASKER):
            texts += _read_questions(rows)
        if not texts:
            raise UsageError(
                f"The {ASKER} has nothing to compare with: the pipeline evaluates on no items.",
                "Name sets: {decontamination: {items: [FILE.jsonl]}}.",
            )
        self.views = [Items(texts, options.letters, bare) for bare in (True, False)]

    def score(self, table: pa.Table) -> ScoreColumns:
        shares = [self._measure(read_words(table, name)) for name in self.columns]
        most = pa.array(np.max(shares, axis=0)) if shares else pa.array([], pa.float64())
        failed = pc.greater_equal(most, self.share)
        return ScoreColumns(
            pc.subtract(1.0, most), failed, explain(failed, lambda: _say(most.filter(failed)))
        )

    def _measure(self, text: Column) -> npt.NDArray[np.float64]:
        parts = [
            np.maximum(*(view.measure(batch) for view in self.views)) for batch in batches(text)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)


class Items:
    """The letter sequences of evaluation items, to be looked up; `bare` of what may stand for numbers."""

    def __init__(self, texts: Sequence[str], letters: int, bare: bool) -> None:
        self.letters, self.bare = letters, bare
        column = self._read(pa.array(list(dict.fromkeys(texts)), pa.string()))
        whole = hash_letter_sequences(column, 1)
        long = np.diff(whole.offsets) >= max(_LEAST, letters)
        self.short = pa.array(
            [
                text
                for text, is_long in zip(_plain(column).to_pylist(), long, strict=True)
                if not is_long and text
            ],
            pa.string(),
        )
        found = hash_letter_sequences(column.filter(pa.array(long)), letters)
        pairs = np.unique(np.stack([found.hashes, found.rows.astype(np.uint64)], axis=1), axis=0)
        self.hashes, first = np.unique(pairs[:, 0], return_index=True)
        self.first: Indices = np.append(first, len(pairs))
        self.homes = pairs[:, 1].astype(np.int64)
        self.sizes = np.bincount(self.homes, minlength=int(long.sum()))
        self.slots = np.zeros(1 << _SLOT_BITS, bool)
        self.slots[_slot(self.hashes)] = True

    def measure(self, text: Array) -> npt.NDArray[np.float64]:
        """The largest share of one item's sequences that each text holds."""
        text = self._read(text)
        share = np.zeros(len(text))
        if len(self.short):
            plain = pc.is_in(_plain(text), value_set=self.short)
            share[pc.fill_null(plain, False).to_numpy(zero_copy_only=False)] = 1.0
        shingles = hash_letter_sequences(text, self.letters)
        likely = np.flatnonzero(self.slots[_slot(shingles.hashes)])
        if not len(likely) or not len(self.hashes):
            return share
        hashes, rows = shingles.hashes[likely], shingles.rows[likely]
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        hit = self.hashes[at] == hashes
        return np.maximum(
            share, self._share(np.unique(rows[hit] * len(self.hashes) + at[hit]), len(text))
        )

    def _read(self, text: Array) -> Array:
        """The texts as this view compares them."""
        text = pc.fill_null(text, "")
        if not self.bare:
            return text
        wide = pc.invert(pc.string_is_ascii(text))
        if wide.true_count:
            seen = pc.replace_substring_regex(text.filter(wide), r"\p{Cf}+", "")
            text = pc.replace_with_mask(text, wide, seen)
        return pc.replace_substring_regex(text, _PLACEHOLDERS, " ")

    def _share(self, found: Indices, rows: int) -> npt.NDArray[np.float64]:
        """From distinct pairs of row and sequence to the largest share per row."""
        row, at = np.divmod(found, len(self.hashes))
        number = self.first[at + 1] - self.first[at]
        place = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        item = self.homes[np.repeat(self.first[at], number) + place]
        pairs, held = np.unique(np.repeat(row, number) * len(self.sizes) + item, return_counts=True)
        home, item = np.divmod(pairs, len(self.sizes))
        most = np.zeros(rows)
        np.maximum.at(most, home, held / self.sizes[item])
        return most


def read_words(table: pa.Table, name: str) -> Column:
    """A column as text; of a conversation, what its turns say, one after the other."""
    kind = table.schema.field(name).type if name in table.column_names else None
    if kind is None or not (pt.is_list(kind) and pt.is_struct(kind.value_type)):
        return read_text(table, name, ASKER)
    turns = as_array(table[name])
    said = pc.fill_null(pc.struct_field(turns.flatten(), "content").cast(pa.string()), "")
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(turns), 0))])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), said), "\n")
    return pa.chunked_array([joined])


def _read_questions(tables: Iterable[pa.Table]) -> list[str]:
    """The questions of a set: its `instruction`, `prompt` or `question`.

    Raises:
        UsageError: It has none of these columns.
    """
    texts: list[str] = []
    for table in tables:
        name = next((name for name in QUESTIONS if name in table.column_names), None)
        if name is None:
            raise UsageError(
                f"The {ASKER} finds no questions: columns {', '.join(table.column_names)}.",
                f"Name the column one of {', '.join(QUESTIONS)}.",
            )
        texts += [text for text in read_text(table, name, ASKER).to_pylist() if text]
    return texts


def _plain(text: Array) -> Array:
    """Lower case, every run of white space and signs one space; digits stay."""
    spaced = pc.replace_substring_regex(pc.utf8_lower(text), r"[^\pL\pM\pN]+", " ")
    return pc.utf8_trim_whitespace(spaced)


def _slot(hashes: Hashes) -> Any:
    """The upper bits, mixed (Fibonacci hashing, Knuth 1973)."""
    return (hashes * _GOLDEN >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)


def _say(shares: Array) -> Array:
    percent = pc.round(pc.multiply(shares, 100)).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(percent, " % of an evaluation item", "")
