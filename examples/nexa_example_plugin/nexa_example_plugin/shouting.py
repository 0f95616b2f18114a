"""Text in capitals: as a check that scores each row, and as a metric over many."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from nexa_core import ScoreColumns


class Options(BaseModel):
    """`limit` is the share of letters that may be capitals; nexa fills `field` with the answer."""

    model_config = ConfigDict(extra="forbid")

    limit: float = Field(default=0.5, ge=0, le=1)
    field: str | None = None


def _measure(table: pa.Table, options: Options) -> pa.Array:
    """The share of capitals among the letters of each row, null where the text is."""
    text = table.column(options.field or "response").combine_chunks()
    letters = pc.count_substring_regex(text, r"\p{L}")
    capitals = pc.count_substring_regex(text, r"\p{Lu}")
    at_least_one = pc.max_element_wise(letters, 1, skip_nulls=False)
    return pc.divide(pc.cast(capitals, pa.float64()), pc.cast(at_least_one, pa.float64()))


class ShoutingCheck:
    """Scores the share of capitals and fails rows over the limit."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def score(self, table: pa.Table) -> ScoreColumns:
        share = _measure(table, self.options)
        return ScoreColumns(values=share, failed=pc.greater(share, self.options.limit))


class ShoutingMetric:
    """True for a row over the limit; rows without text are outside the population."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def outcomes(self, table: pa.Table) -> pa.Array:
        return pc.greater(_measure(table, self.options), self.options.limit)
