"""What a user may set on each check and metric.

Columns and delimiters that stay None are filled in from the pipeline before anything is built.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Delimiter = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """Closed and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldOptions(Options):
    """Which text is read."""

    field: str | None = Field(
        None, description="column with the text; the answer column unless set"
    )


class FinishOptions(Options):
    """Which finish reason is read."""

    finish_field: str | None = Field(None, description="column with the finish reason")


class DelimiterOptions(FieldOptions):
    """Which marks open another record."""

    delimiters: tuple[Delimiter, ...] | None = Field(
        None, description="texts that open another record; the prompt's unless set"
    )


class RunawayOptions(DelimiterOptions):
    """Where the text before stop-trimming is."""

    raw_field: str | None = Field(
        None,
        description="column with the text before stop-trimming; `field` is read where it is null",
    )


class TokenOptions(FieldOptions):
    """Where token counts are."""

    tokens_field: str | None = Field(
        None,
        description="column with the model's token count; words are counted where there is none",
    )


class LengthOptions(TokenOptions):
    """Bounds, both ends included."""

    min_chars: Count | None = Field(None, description="fewest characters (Unicode code points)")
    max_chars: Count | None = Field(None, description="most characters")
    min_tokens: Count | None = Field(None, description="fewest tokens")
    max_tokens: Count | None = Field(None, description="most tokens")

    @model_validator(mode="after")
    def _require_bounds(self) -> Self:
        if self.bounds == ():
            raise ValueError("set at least one of min_chars, max_chars, min_tokens, max_tokens")
        for unit in ("chars", "tokens"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is above max_{unit} {high}: no text could pass")
        return self

    @property
    def bounds(self) -> tuple[tuple[str, str, int], ...]:
        """Every bound set, as (unit, end, limit)."""
        named = (
            (u, e, getattr(self, f"{e}_{u}")) for u in ("chars", "tokens") for e in ("min", "max")
        )
        return tuple((unit, end, limit) for unit, end, limit in named if limit is not None)


class RefusalOptions(FieldOptions):
    """How a refusal starts."""

    patterns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="regular expressions (RE2) tried at the start of the text, without regard to "
        "case, in place of the shipped English ones",
    )


class RepetitionOptions(FieldOptions):
    """How much repetition is too much."""

    words: int = Field(4, ge=1, le=16, description="length of the word sequences that are compared")
    max_share: Share = Field(0.5, description="largest share of sequences that occurred before")


class DuplicateOptions(FieldOptions):
    """What makes two rows the same."""

    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="compare these columns together instead of `field` alone",
    )
    ignore_case: bool = Field(False, description="upper and lower case are the same")
    ignore_space: bool = Field(
        False, description="any run of white space is one space, none at the ends"
    )


class EmptyRateOptions(FieldOptions, FinishOptions):
    """Which rows were answered at all."""


class DuplicateRateOptions(FieldOptions):
    """Whose verdict is counted."""

    score: str = Field(
        "exact_duplicates",
        description="id of the duplicates check whose scores are read",
    )


class ServedByOptions(Options):
    """Who is to serve the answers."""

    expect: str | None = Field(
        None,
        min_length=1,
        description="a part of the server's name, in any case: a provider, a model, a "
        "quantisation; the role's `must_be` unless set",
    )
    answer_step: str | None = Field(
        None, description="id of the step; the last generate step unless set"
    )


class UnscoredOptions(Options):
    """Which scores are judgements."""

    judges: tuple[str, ...] | None = Field(None, description="ids of the judges and critics")


class FlagOptions(Options):
    """Which flags count."""

    prefix: str = Field("safety", description="how a safety flag starts; empty: any flag counts")


class ScoreOptions(Options):
    """Which score is averaged."""

    score: str = Field(description="id of the score")
