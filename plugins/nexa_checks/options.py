"""What a user may set on each check and metric.

Columns and delimiters that stay None are filled in from the pipeline before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Delimiter = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
OpenRows = Callable[[str], Any]
Share = Annotated[float, Field(ge=0, le=1)]


COLUMN: dict[str, Any] = {"column": True}
"""Says that an option names columns, so that a name no row has is found before anything is paid for."""
AGAINST = "ids of earlier runs, or files, whose rows come before the first"


class Options(BaseModel):
    """Closed and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldOptions(Options):
    """Which text is read."""

    field: str | None = Field(
        None,
        description="column with the text; the answer column unless set",
        json_schema_extra=COLUMN,
    )


class FinishOptions(Options):
    """Which finish reason is read."""

    finish_field: str | None = Field(
        None, description="column with the finish reason", json_schema_extra=COLUMN
    )


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
        json_schema_extra=COLUMN,
    )


class TokenOptions(FieldOptions):
    """Where token counts are."""

    tokens_field: str | None = Field(
        None,
        description="column with the model's token count; words are counted where there is none",
        json_schema_extra=COLUMN,
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
    max_line_share: Share = Field(0.5, description="largest share of lines that occurred before")


class DuplicateOptions(FieldOptions):
    """What makes two rows the same."""

    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="compare these columns together instead of `field` alone",
        json_schema_extra=COLUMN,
    )
    ignore_case: bool = Field(False, description="upper and lower case are the same")
    ignore_space: bool = Field(
        False, description="any run of white space is one space, none at the ends"
    )
    against: tuple[str, ...] = Field((), description=AGAINST)
    open_rows: OpenRows | None = Field(None, exclude=True)


class NearDuplicateOptions(FieldOptions):
    """How alike two rows must be."""

    threshold: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Jaccard similarity at which nine in ten near duplicates are found",
    )
    words: int = Field(5, ge=1, le=16, description="length of the word sequences that are compared")
    against: tuple[str, ...] = Field((), description=AGAINST)
    open_rows: OpenRows | None = Field(None, exclude=True)


class DecontaminationOptions(FieldOptions):
    """Which items no row may hold."""

    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="columns that are searched; question and answer unless set",
        json_schema_extra=COLUMN,
    )
    items: tuple[str, ...] = Field(
        (),
        description="evaluation sets beside the pipeline's own `evaluate.items`: files, ids of runs, "
        "or sets that plugins ship",
    )
    letters: int = Field(20, ge=8, le=64, description="length of the letter sequences, in bytes")
    share: float = Field(
        0.4, gt=0, le=1, description="least share of an item's sequences that makes a match"
    )
    evaluation_items: tuple[str, ...] | None = Field(None, exclude=True)
    prompt_field: str | None = Field(None, exclude=True)
    open_rows: OpenRows | None = Field(None, exclude=True)


class FormattingOptions(FieldOptions):
    """What is looked at."""

    fences: bool = Field(True, description="code fences must be closed")
    brackets: bool = Field(True, description="no more brackets may open than close")
    ending: bool = Field(
        True, description="the text may not break off within a sentence, nor where it only begins"
    )


class JsonOptions(FieldOptions):
    """What the JSON must be."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: dict[str, Any] | str | None = Field(
        None,
        alias="schema",
        description="a JSON Schema, or a file with one; without `$schema` it is of draft 2020-12",
    )
    fenced: bool = Field(True, description="a text that is one Markdown code block is read inside")
    folder: str | None = Field(None, exclude=True)


class LanguageOptions(FieldOptions):
    """Which languages pass."""

    languages: tuple[str, ...] = Field(
        min_length=1, description="codes (ISO 639-1) of the languages that pass, such as `en`"
    )
    min_confidence: Share = Field(
        0.5, description="a text fails where another language is this probable"
    )
    min_chars: Count = Field(20, description="shorter texts are left out")


class PersonalOptions(FieldOptions):
    """What counts as personal."""

    kinds: tuple[Literal["email", "phone", "card", "iban", "ip"], ...] = Field(
        ("email", "phone", "card", "iban", "ip"), min_length=1, description="what is looked for"
    )
    regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        (),
        description="countries (`US`, `DE`) whose phone numbers are found without a country code too",
    )


class ActionVerbOptions(FieldOptions):
    """Which verbs, and how many."""

    verbs: tuple[Annotated[str, Field(pattern="^[a-z]{2,}$")], ...] | None = Field(
        None, min_length=1, description="verbs in place of the shipped English ones"
    )
    least: int = Field(1, ge=1, description="fewest different verbs")


class ScienceOptions(TokenOptions):
    """The bounds of the preset."""

    min_chars: Count = Field(120, description="fewest characters")
    min_tokens: Count = Field(80, description="fewest tokens")
    least: int = Field(1, ge=1, description="fewest different action verbs")


class ReadingOptions(FieldOptions):
    """How the answer is taken from a text."""

    take: Literal["boxed", "last_number", "regex", "text"] = Field(
        "last_number",
        description="the answer is the last `\\boxed{…}`, the last number, the first group of "
        "`pattern`, or the whole text",
    )
    pattern: str | None = Field(None, description="regular expression (RE2) for `take: regex`")


class AnswerOptions(ReadingOptions):
    """Where the right answer is."""

    column: str = Field(description="column with the right answer", json_schema_extra=COLUMN)
    expected: Literal["boxed", "last_number", "regex", "text"] | None = Field(
        None, description="how it is taken from that column; as `take` says unless set"
    )


class MajorityOptions(ReadingOptions):
    """When most is enough."""

    least: Share = Field(0.0, description="least share of samples that the answer must have")


class CommandOptions(FieldOptions):
    """What is run, on what, and how much it may take."""

    command: tuple[str, ...] = Field(
        min_length=1,
        description="program and arguments; the text is its input, and stands in `answer.txt`",
    )
    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]*$")], str] | None = Field(
        None,
        description="files in its folder, by name, each with the column that it holds",
        json_schema_extra=COLUMN,
    )
    run_untrusted: bool = Field(
        False, description="must be true: the check runs what a model wrote on this machine"
    )
    network: bool = Field(False, description="leave the network within reach")
    timeout: float = Field(10.0, gt=0, le=600, description="seconds, of the clock and of CPU")
    memory_mb: int = Field(512, ge=16, description="memory of a process in MB")
    file_mb: int = Field(16, ge=1, description="size of a file, and of what is printed, in MB")
    processes: int = Field(64, ge=1, description="processes of this user (not kept for root)")
    workers: int | None = Field(
        None, ge=1, description="how many run at once; one per core unless set"
    )


class DiversityOptions(FieldOptions):
    """When a row says too little that is new."""

    words: int = Field(2, ge=1, le=16, description="length of the word sequences")
    min_new: Share = Field(0.0, description="least share of sequences that no earlier row had")


class DistinctOptions(FieldOptions):
    """Which sequences are counted."""

    words: int = Field(2, ge=1, le=16, description="length of the word sequences")


class EmptyRateOptions(FieldOptions, FinishOptions):
    """Which rows were answered at all."""


class DuplicateRateOptions(FieldOptions):
    """Whose verdict is counted."""

    score: str | None = Field(
        None,
        description="id of the duplicates check whose scores are read; `exact_duplicates` and "
        "`near_duplicates` unless set",
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
