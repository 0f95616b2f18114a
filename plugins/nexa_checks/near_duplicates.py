"""The set check of near duplicates: MinHash signatures, compared band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nexa_checks.columns import Column, read_text, require_option
from nexa_checks.duplicates import Seen, open_earlier
from nexa_checks.shingles import Hashes, batches, hash_word_sequences
from nexa_checks.verdicts import pass_or_fail
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import NearDuplicateOptions

ASKER = "check 'near_duplicates'"
_MOST_HASHES, _CATCH = 128, 0.9
_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True)
class Bands:
    """The kept rows so far: per band the sorted band hashes, 8 bytes each."""

    seen: tuple[Seen, ...]


class NearDuplicates:
    """Fails a row that is probably as similar to an earlier kept row as `threshold`, or more.

    Similarity is the Jaccard similarity of the two texts' word sequences, estimated by MinHash
    (Broder 1997) with locality-sensitive hashing (Indyk and Motwani 1998): two rows of similarity s
    meet with probability 1 − (1 − s^r)^b for b bands of r hashes. Rows without words are left out.
    """

    def __init__(self, options: NearDuplicateOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        self.words, self.seed = options.words, 1
        self.bands, self.rows = choose_bands(options.threshold)
        self.earlier = open_earlier(options.against, options.open_rows, ASKER)
        self._begin: Bands | None = None

    def start(self) -> Bands:
        if self._begin is None:
            state = Bands((Seen(),) * self.bands)
            for table in (table for rows in self.earlier for table in rows):
                state, _ = self.fold(state, table)
            self._begin = state
        return self._begin

    def fold(self, state: Bands, table: pa.Table) -> tuple[Bands, ScoreColumns]:
        text = read_text(table, self.field, ASKER)
        keys, valid = self._sign(text)
        known = np.zeros(len(keys), bool)
        for band, seen in enumerate(state.seen):
            order = np.argsort(keys[:, band], kind="stable")
            known[order] |= seen.holds(keys[order, band])
        failed = np.zeros(len(table), bool)
        failed[valid] = known | _repeat(keys, known)
        kept = keys[~failed[valid]]
        fresh = (np.unique(kept[:, band]) for band in range(self.bands))
        after = Bands(
            tuple(
                seen.add(new[~seen.holds(new)]) for seen, new in zip(state.seen, fresh, strict=True)
            )
        )
        mask = np.ones(len(table), bool)
        mask[valid] = False
        verdict = pa.array(failed, pa.bool_(), mask=mask)
        return after, pass_or_fail(verdict, "nearly the same as an earlier row")

    def _sign(self, text: Column) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The band hashes (rows × bands) of the rows that have words, and which rows those are."""
        from rensa import RMinHash

        keys, valid, at = [np.zeros((0, self.bands), np.uint64)], [np.zeros(0, np.int64)], 0
        for batch in batches(text):
            shingles = hash_word_sequences(batch, self.words)
            some = np.flatnonzero(np.diff(shingles.offsets))
            offsets = np.append(shingles.offsets[some], shingles.offsets[-1]).astype(np.uint64)
            digests = RMinHash.digest_matrix_from_flat_token_hashes(
                shingles.hashes, offsets, num_perm=self.bands * self.rows, seed=self.seed
            )
            matrix = np.array(digests.to_rows(), np.uint64).reshape(
                len(some), self.bands * self.rows
            )
            keys.append(self._join(matrix))
            valid.append(some + at)
            at += len(batch)
        return np.concatenate(keys), np.concatenate(valid)

    def _join(self, matrix: Hashes) -> Hashes:
        """One hash per band of a signature."""
        grouped = matrix.reshape(len(matrix), self.bands, self.rows)
        joined = np.zeros(grouped.shape[:2], np.uint64)
        for row in range(self.rows):
            joined = (joined ^ grouped[:, :, row]) * _PRIME
            joined ^= joined >> np.uint64(29)
        return joined


def choose_bands(threshold: float) -> tuple[int, int]:
    """Bands and hashes per band: as many hashes as find nine in ten pairs at the threshold."""
    for rows in range(16, 0, -1):
        for bands in range(1, _MOST_HASHES // rows + 1):
            if 1 - (1 - threshold**rows) ** bands >= _CATCH:
                return bands, rows
    return _MOST_HASHES, 1


def _repeat(keys: Hashes, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows of one table meet an earlier kept row of it in some band."""
    shared = np.zeros(keys.shape, bool)
    for band in range(keys.shape[1]):
        _, home, count = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = count[home] > 1
    repeats = np.zeros(len(keys), bool)
    held: set[tuple[int, int]] = set()
    for row in np.flatnonzero(shared.any(axis=1) & ~known).tolist():
        own = [(int(band), int(keys[row, band])) for band in np.flatnonzero(shared[row])]
        if held.isdisjoint(own):
            held.update(own)
        else:
            repeats[row] = True
    return repeats
