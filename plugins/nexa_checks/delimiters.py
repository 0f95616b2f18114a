"""Finds delimiters in a column of text, and says which one a text holds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, Column
from nexa_checks.scans import Literals
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns


class Delimiters:
    """Texts that open another record, each taken literally; case counts.

    `verb` starts the reason of a row that holds one.
    """

    def __init__(self, texts: Sequence[str], verb: str) -> None:
        self.literals = Literals(texts)
        self.reasons = pa.array([*(f"{verb} {text!r}" for text in texts), None], pa.string())

    def occur_in(self, *texts: Column) -> Array:
        """Where at least one of them occurs; null where the text is.

        Of several columns, the first that is not null counts for a row.
        """
        return pc.less(self._locate(texts), self.literals.count)

    def judge(self, *texts: Column) -> ScoreColumns:
        """Fails each text that holds one; the reason names the first listed one of them."""
        places = self._locate(texts)
        failed = pc.less(places, self.literals.count)
        return ScoreColumns(score_passing(failed), failed, self.reasons.take(places))

    def _locate(self, texts: Sequence[Column]) -> Array:
        places = [self.literals.find(text) for text in texts]
        return places[0] if len(places) == 1 else pc.coalesce(*places)
