"""The specs of every check and metric; what they name is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nexa_core import CheckSpec, MetricSpec, Need

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
        "Fails where the text is missing, or only white space and unseen characters. Score: 1 passes, 0 fails.",
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
        "Fails where too much of the text, in words or in lines, has occurred in it before. "
        "Score: the share of distinct word sequences.",
        build=_build("repetition:Repetition"),
        options=_options("RepetitionOptions"),
    ),
    CheckSpec(
        "formatting",
        "Fails where a code fence or bracket is not closed, or the text breaks off within a "
        "sentence. Score: 1 passes, 0 fails.",
        build=_build("formatting:Formatting"),
        options=_options("FormattingOptions"),
    ),
    CheckSpec(
        "json",
        "Fails where the text is no JSON, or not of the schema given. Score: 1 passes, 0 fails.",
        build=_build("json_text:JsonText"),
        options=_options("JsonOptions"),
    ),
    CheckSpec(
        "language",
        "Fails where the text is in another language. Score: the probability that it is in "
        "one of the languages.",
        build=_build("language:Language"),
        options=_options("LanguageOptions"),
        needs=(Need("py3langid", "checks", "5 MB"),),
        waits=True,
    ),
    CheckSpec(
        "pii",
        "Fails where the text holds an e-mail address, phone or card number, IBAN or public "
        "IP address. Score: 1 passes, 0 fails.",
        build=_build("personal:Personal"),
        options=_options("PersonalOptions"),
        needs=(Need("phonenumbers", "checks", "23 MB"),),
    ),
    CheckSpec(
        "secrets",
        "Fails where the text holds a key or token of a known form. Score: 1 passes, 0 fails.",
        build=_build("secret_tokens:Secrets"),
        options=_options("FieldOptions"),
        needs=(Need("detect_secrets", "checks", "1 MB"),),
    ),
    CheckSpec(
        "action_verbs",
        "Fails where the text has too few action verbs (English; any inflection counts). "
        "Score: how many different ones it has.",
        build=_build("science:ActionVerbs"),
        options=_options("ActionVerbOptions"),
    ),
    CheckSpec(
        "no_citations",
        "Fails where the text holds citation markers or bracketed references. Score: 1 "
        "passes, 0 fails.",
        build=_build("science:NoCitations"),
        options=_options("FieldOptions"),
    ),
    CheckSpec(
        "science",
        "The preset for methods in science: `length` with 120 characters and 80 tokens, "
        "`action_verbs` and `no_citations` in one. Score: 1 passes, 0 fails.",
        build=_build("science:Science"),
        options=_options("ScienceOptions"),
    ),
    CheckSpec(
        "answer_equals",
        "Fails where the answer in the text is not the one in another column. Score: 1 "
        "passes, 0 fails.",
        build=_build("answers:AnswerEquals"),
        options=_options("AnswerOptions"),
    ),
    CheckSpec(
        "command",
        "Fails where a command, run on the text in a process of its own with little in reach, "
        "ends with an error. Score: 1 passes, 0 fails.",
        build=_build("commands:Command"),
        options=_options("CommandOptions"),
        waits=True,
    ),
    CheckSpec(
        "decontamination",
        "Fails where the row holds an evaluation item, also with other numbers or white "
        "space. Score: 1 less the largest share of an item that it holds.",
        build=_build("decontamination:Decontamination"),
        options=_options("DecontaminationOptions"),
        mixed=True,
    ),
    CheckSpec(
        "exact_duplicates",
        "Fails where an earlier row has the same text; the first is kept. "
        "Score: 1 passes, 0 fails.",
        build=_build("duplicates:ExactDuplicates"),
        options=_options("DuplicateOptions"),
        over="set",
    ),
    CheckSpec(
        "near_duplicates",
        "Fails where an earlier row is nearly the same (MinHash); the first is kept. Score: 1 "
        "passes, 0 fails.",
        build=_build("near_duplicates:NearDuplicates"),
        options=_options("NearDuplicateOptions"),
        over="set",
    ),
    CheckSpec(
        "majority",
        "Fails a sample whose answer most samples of its source row do not give. Score: the "
        "share of the samples with its answer.",
        build=_build("answers:Majority"),
        options=_options("MajorityOptions"),
        over="set",
    ),
    CheckSpec(
        "diversity",
        "Fails where too little of the text is new to the set; never, unless told. Score: the "
        "share of its word sequences that no earlier row had.",
        build=_build("diversity:Diversity"),
        options=_options("DiversityOptions"),
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
        "Share of answers that are missing, or only white space and unseen characters.",
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
        population="rows that a duplicates check scored, over the whole unit; where no such check "
        "ran, rows with an answer, compared within their shard only; failed rows left out, one "
        "sample per source row",
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
    MetricSpec(
        "distinct_n",
        "Mean over the answers of the share of distinct word sequences.",
        build=_build("diversity:DistinctN"),
        options=_options("DistinctOptions"),
        population=ANSWERED,
        aggregate="mean",
    ),
)
