"""The metrics: which rows each counts, and what it sees in them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from nexa_checks import register_metrics
from nexa_core import CheckError, UsageError

SPECS = {spec.name: spec for spec in register_metrics()}
FACTS = {
    "field": "response",
    "raw_field": "response_raw_text",
    "tokens_field": "response_tokens",
    "finish_field": "response_finish_reason",
    "delimiters": ["\nQ:"],
    "answer_step": "answer",
    "expect": "server",
}


def outcomes(name: str, table: dict[str, Any] | pa.Table, **more: Any) -> list[Any]:
    spec = SPECS[name]
    options = None
    if spec.options:
        model = spec.options()
        known = {key: value for key, value in FACTS.items() if key in model.model_fields}
        options = model.model_validate({**known, **more})
    return (
        spec.build(options)
        .outcomes(table if isinstance(table, pa.Table) else pa.table(table))
        .to_pylist()
    )


STATES = ["accepted", "rejected", "surplus", "failed"]
TEXTS = {
    "response": ["a\nQ: b", "a", "I cannot help", None],
    "response_raw_text": ["a\nQ: b", "a\nQ:", None, None],
    "response_tokens": pa.array([4, 1, 3, None], pa.int32()),
    "response_finish_reason": ["length", "stop", "stop", None],
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("runaway_rate", [True, True, False, None]),
        ("delimiter_leakage", [True, False, False, None]),
        ("token_limit_rate", [True, False, False, None]),
        ("refusal_rate", [False, False, True, None]),
        ("median_tokens", [4, 1, 3, None]),
        ("empty_rate", [False, False, False, None]),
        ("duplicate_rate", [False, False, False, None]),
    ],
)
def test_text_metrics_leave_out_rows_without_an_answer(name: str, expected: list[Any]) -> None:
    """A row rejected before it was answered counts in no metric of text."""
    table = {**TEXTS, "state": ["accepted", "accepted", "rejected", "rejected"], "sample": [0] * 4}
    assert outcomes(name, table) == expected


@pytest.mark.parametrize("name", sorted(set(SPECS) - {"failed_rate", "mean_score"}))
def test_failed_rows_and_further_samples_are_outside_every_population(name: str) -> None:
    """One sample per source row, and none that failed, in all metrics but `failed_rate`."""
    table = {
        "response": ["a"] * 3,
        "response_finish_reason": ["stop"] * 3,
        "state": ["accepted", "failed", "accepted"],
        "sample": [0, 0, 1],
        "reason": ["", "", ""],
        "flags": [["x"]] * 3,
        "provenance": [{"steps": [{"step": "answer", "served_by": "a"}]}] * 3,
    }
    assert [outcome is None for outcome in outcomes(name, table)] == [False, True, True]


def test_failed_rate_counts_failed_rows_among_all() -> None:
    """It is the one metric whose population holds them."""
    table = {"state": [*STATES, "failed"], "sample": [0, 0, 0, 0, 1]}
    assert outcomes("failed_rate", table) == [False, False, False, True, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acceptance_rate", [True, False, True, None]),
        ("rejected_rate", [False, True, False, None]),
    ],
)
def test_surplus_rows_count_as_accepted(name: str, expected: list[Any]) -> None:
    """Being accepted after the wanted number is no fault of the row."""
    assert outcomes(name, {"state": STATES, "sample": [0] * 4}) == expected


def test_a_source_that_brings_its_answers_may_lack_some() -> None:
    """Without a finish reason a missing answer is an empty one."""
    table = {"response": ["a", None, " "], "state": ["accepted", "rejected", "rejected"]}
    assert outcomes("empty_rate", table) == [False, True, True]


def test_an_answered_row_without_text_is_empty() -> None:
    """A finish reason says that the model was asked."""
    table = {"response": [None, None], "response_finish_reason": ["stop", None]}
    assert outcomes("empty_rate", table) == [True, None]


def test_token_limits_are_unknown_without_finish_reasons() -> None:
    """A dataset that comes without them has an empty population, not a rate of 0."""
    assert outcomes("token_limit_rate", {"response": ["a", "b"]}) == [None, None]


def test_tokens_are_words_where_no_model_counted() -> None:
    """The median of a dataset without token counts is one of words."""
    assert outcomes("median_tokens", {"response": ["one two", None, ""]}) == [2, None, 0]


def test_duplicates_are_what_the_check_found_across_shards() -> None:
    """The scores of the duplicates check decide where it ran."""
    scores = pa.array(
        [{"exact_duplicates": v} for v in (1.0, 0.0, None)],
        pa.struct({"exact_duplicates": pa.float64()}),
    )
    assert outcomes("duplicate_rate", {"response": ["a", "b", "b"], "scores": scores}) == [
        False,
        True,
        None,
    ]


def test_duplicates_without_a_check_are_those_within_the_shard() -> None:
    """Failed rows are no first of their kind."""
    table = {
        "response": ["a", "a", "a", "b"],
        "state": ["failed", "accepted", "rejected", "accepted"],
    }
    assert outcomes("duplicate_rate", table) == [None, False, True, False]


def test_unscored_rows_are_counted_among_those_that_reached_a_judge() -> None:
    """With the judges named, rows rejected before any of them are left out."""
    table = pa.table(
        {
            "state": ["accepted", "rejected", "rejected", "rejected"],
            "reason": [None, "unscored", "empty: no text", "clear"],
            "scores": [{"clear": 0.9}, {"clear": None}, {"clear": None}, {"clear": 0.1}],
        }
    )
    assert outcomes("unscored_rate", table) == [False, True, False, False]
    assert outcomes("unscored_rate", table, judges=["clear"]) == [False, True, None, False]


def test_safety_flags_are_told_by_their_prefix() -> None:
    """A flag that a check set is no safety flag, unless every flag is asked for."""
    table = {
        "state": ["accepted"] * 4,
        "flags": pa.array([["safety_harm", "length"], ["length"], [], None], pa.list_(pa.string())),
    }
    assert outcomes("safety_flag_rate", table) == [True, False, False, False]
    assert outcomes("safety_flag_rate", table, prefix="") == [True, True, False, False]


def test_mean_score_reads_one_score() -> None:
    """Rows without it are outside."""
    scores = pa.array([{"clear": 0.5}, {"clear": None}])
    assert outcomes("mean_score", {"scores": scores}, score="clear") == [0.5, None]


def test_a_score_that_no_row_has_is_named_with_those_there_are() -> None:
    """The error lists the scores and the one probably meant."""
    with pytest.raises(CheckError, match=r"'cleer', which no row has. Scores: clear. Did you mean"):
        outcomes("mean_score", {"scores": pa.array([{"clear": 0.5}])}, score="cleer")


def test_a_metric_of_delimiters_needs_some() -> None:
    """A gate on runaways in a pipeline without delimiters is refused when it is built."""
    with pytest.raises(UsageError, match="metric 'runaway_rate' does not know its `delimiters`"):
        outcomes("runaway_rate", {"response": ["a"]}, delimiters=None)


def test_every_metric_says_whom_it_counts() -> None:
    """Populations are told in words, and each says that failed rows are out or in."""
    for spec in SPECS.values():
        assert "one sample per source row" in spec.population, spec.name
