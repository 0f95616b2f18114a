"""The check of contamination: rows that hold an evaluation item, also reworded in its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nexa_checks.columns import Array, Column, as_array, read_text, require_option
from nexa_checks.duplicates import open_earlier
from nexa_checks.shingles import (
    Hashes,
    Indices,
    Shingles,
    batches,
    hash_letter_views,
    hash_words,
)
from nexa_checks.verdicts import explain
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import DecontaminationOptions

ASKER = "check 'decontamination'"
QUESTIONS = ("instruction", "prompt", "question")
_LEAST = 24
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand "
    "million dozen half twice num nums number numbers digit digits int integer float mask masked blank value"
)
_SHORT = ("".join(word) for size in (2, 3, 4) for word in product("nx", repeat=size))
_PLACEHOLDERS = hash_words([*_NUMBERS.split(), *_SHORT])
"""What may stand for a number, in English, beside single letters."""
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
        self._index(pa.array(list(dict.fromkeys(texts)), pa.string()))

    def _index(self, texts: Array) -> None:
        """The sequences of long items, plain and bare, and short items as texts."""
        _, bare = hash_letter_views(texts, 1, _PLACEHOLDERS)
        long = np.diff(bare.offsets) >= max(_LEAST, self.letters)
        found = hash_letter_views(texts.filter(pa.array(long)), self.letters, _PLACEHOLDERS)
        self.views = [Items(each) for each in found]
        short = texts.filter(pa.array(~long))
        self.short = pc.unique(_plain(short).filter(pc.greater(pc.binary_length(_plain(short)), 0)))

    def score(self, table: pa.Table) -> ScoreColumns:
        shares = [self._measure(read_words(table, name)) for name in self.columns]
        most = pa.array(np.max(shares, axis=0)) if shares else pa.array([], pa.float64())
        failed = pc.greater_equal(most, self.share)
        return ScoreColumns(
            pc.subtract(1.0, most), failed, explain(failed, lambda: _say(most.filter(failed)))
        )

    def _measure(self, text: Column) -> npt.NDArray[np.float64]:
        parts = [self._measure_batch(batch) for batch in batches(text)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _measure_batch(self, text: Array) -> npt.NDArray[np.float64]:
        """The largest share of one item's sequences that each text holds, in either view."""
        found = hash_letter_views(text, self.letters, _PLACEHOLDERS)
        share = np.maximum(
            *(view.measure(each) for view, each in zip(self.views, found, strict=True))
        )
        if len(self.short):
            same = pc.is_in(_plain(text), value_set=self.short)
            share[pc.fill_null(same, False).to_numpy(zero_copy_only=False)] = 1.0
        return share


class Items:
    """The letter sequences of evaluation items, to be looked up."""

    def __init__(self, found: Shingles) -> None:
        pairs = np.unique(np.stack([found.hashes, found.rows.astype(np.uint64)], axis=1), axis=0)
        self.hashes, first = np.unique(pairs[:, 0], return_index=True)
        self.first: Indices = np.append(first, len(pairs))
        self.homes = pairs[:, 1].astype(np.int64)
        self.sizes = np.bincount(self.homes, minlength=len(found.offsets) - 1)
        self.slots = np.zeros(1 << _SLOT_BITS, bool)
        self.slots[_slot(self.hashes)] = True

    def measure(self, shingles: Shingles) -> npt.NDArray[np.float64]:
        """The largest share of one item's sequences that each row holds."""
        rows = len(shingles.offsets) - 1
        likely = np.flatnonzero(self.slots[_slot(shingles.hashes)])
        if not len(likely):
            return np.zeros(rows)
        hashes = shingles.hashes[likely]
        home = np.searchsorted(shingles.offsets, likely, "right") - 1
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        hit = self.hashes[at] == hashes
        return self._share(np.unique(home[hit] * len(self.hashes) + at[hit]), rows)

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
