"""The specs of every check and metric; what they name is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nexa_core import CheckSpec, MetricSpec

if TYPE_CHECKING:
    from pydantic import BaseModel

ANSWERED = "rows with an answer, failed rows left out, one sample per source row"
DECIDED = "accepted, surplus and rejected rows, one sample per source row"


def _build(path: str) -> Callable[..., Any]:
    """A builder that imports `module:Class` of this plugin when called."""

    def build(options: object = None) -> Any:
        module, name = path.split(":")
        made = getattr(import_module(f"nexa_checks.{module}"), name)
        return made() if options is None else made(options)

    return build


def _options(name: str) -> Callable[[], type[BaseModel]]:
    """A function that imports an options class of this plugin when called."""

    def load() -> type[BaseModel]:
        found: type[BaseModel] = getattr(import_module("nexa_checks.options"), name)
        return found

    return load


CHECKS = (
    CheckSpec(
        "empty",
        "Fails where the text is missing or only white space. Score: 1 passes, 0 fails.",
        build=_build("text:Empty"),
        options=_options("FieldOptions"),
    ),
    CheckSpec(
        "truncated",
        "Fails where the model stopped at its token limit; does not apply without a finish reason. "
        "Score: 1 passes, 0 fails.",
        build=_build("text:Truncated"),
        options=_options("FinishOptions"),
    ),
    CheckSpec(
        "runaway",
        "Fails where the text before stop-trimming runs on into another record. "
        "Score: 1 passes, 0 fails.",
        build=_build("text:Runaway"),
        options=_options("RunawayOptions"),
    ),
    CheckSpec(
        "delimiter_leakage",
        "Fails where the final text holds a delimiter. Score: 1 passes, 0 fails.",
        build=_build("text:DelimiterLeakage"),
        options=_options("DelimiterOptions"),
    ),
    CheckSpec(
        "length",
        "Fails outside the given bounds. Score: the number of tokens where a token bound is set, "
        "else of characters.",
        build=_build("length:Length"),
        options=_options("LengthOptions"),
    ),
    CheckSpec(
        "refusal",
        "Fails where the answer starts as a refusal (English). Score: 1 passes, 0 fails.",
        build=_build("text:Refusal"),
        options=_options("RefusalOptions"),
    ),
    CheckSpec(
        "repetition",
        "Fails where too much of the text has occurred in it before. Score: the share of distinct "
        "word sequences.",
        build=_build("repetition:Repetition"),
        options=_options("RepetitionOptions"),
    ),
    CheckSpec(
        "exact_duplicates",
        "Fails where an earlier row has the same text; the first is kept. "
        "Score: 1 passes, 0 fails.",
        build=_build("duplicates:ExactDuplicates"),
        options=_options("DuplicateOptions"),
        over="set",
    ),
)

METRICS = (
    MetricSpec(
        "runaway_rate",
        "Share of answers that run on into another record, read before stop-trimming.",
        build=_build("metrics:RunawayRate"),
        options=_options("RunawayOptions"),
        population=f"{ANSWERED}, finished and unfinished; text before stop-trimming",
    ),
    MetricSpec(
        "token_limit_rate",
        "Share of answers that stopped at the token limit.",
        build=_build("metrics:TokenLimitRate"),
        options=_options("FinishOptions"),
        population=f"{ANSWERED} and a finish reason",
    ),
    MetricSpec(
        "delimiter_leakage",
        "Share of final texts that hold a delimiter.",
        build=_build("metrics:DelimiterLeakageRate"),
        options=_options("DelimiterOptions"),
        population=f"{ANSWERED}; text after stop-trimming",
    ),
    MetricSpec(
        "median_tokens",
        "Median length of an answer in tokens.",
        build=_build("metrics:Tokens"),
        options=_options("TokenOptions"),
        population=f"{ANSWERED}; tokens as the model counts them, words where it does not",
        aggregate="median",
    ),
    MetricSpec(
        "acceptance_rate",
        "Share of decided rows that were accepted; surplus rows count as accepted.",
        build=_build("metrics:AcceptanceRate"),
        population=DECIDED,
    ),
    MetricSpec(
        "rejected_rate",
        "Share of decided rows that were rejected.",
        build=_build("metrics:RejectedRate"),
        population=DECIDED,
    ),
    MetricSpec(
        "failed_rate",
        "Share of rows whose call or parsing failed.",
        build=_build("metrics:FailedRate"),
        population="every row, failed rows included, one sample per source row",
    ),
    MetricSpec(
        "empty_rate",
        "Share of answers that are missing or only white space.",
        build=_build("metrics:EmptyRate"),
        options=_options("EmptyRateOptions"),
        population="rows that were answered (they have a finish reason), or every row of a source "
        "that brings its own answers; failed rows left out, one sample per source row",
    ),
    MetricSpec(
        "duplicate_rate",
        "Share of rows whose text an earlier row has.",
        build=_build("metrics:DuplicateRate"),
        options=_options("DuplicateRateOptions"),
        population="rows that the duplicates check scored; where no such check ran, rows with an "
        "answer, compared within their shard only; failed rows left out, one sample per source row",
    ),
    MetricSpec(
        "refusal_rate",
        "Share of answers that start as a refusal (English).",
        build=_build("metrics:RefusalRate"),
        options=_options("RefusalOptions"),
        population=ANSWERED,
    ),
    MetricSpec(
        "unscored_rate",
        "Share of rows rejected because a judgement could not be read.",
        build=_build("metrics:UnscoredRate"),
        options=_options("UnscoredOptions"),
        population=f"{DECIDED}; where `judges` are named, only rows that reached one",
    ),
    MetricSpec(
        "safety_flag_rate",
        "Share of decided rows with a safety flag.",
        build=_build("metrics:SafetyFlagRate"),
        options=_options("FlagOptions"),
        population=DECIDED,
    ),
    MetricSpec(
        "served_by_mix",
        "Share of answers that another server, model or quantisation than the expected one served.",
        build=_build("serving:ServedByMix"),
        options=_options("ServedByOptions"),
        population="rows whose reply names its server, failed rows left out, one sample per "
        "source row",
    ),
    MetricSpec(
        "mean_score",
        "Mean of one score, by its id.",
        build=_build("metrics:MeanScore"),
        options=_options("ScoreOptions"),
        population="rows with that score, failed rows left out, one sample per source row",
        aggregate="mean",
    ),
)
