"""The checks: what each fails, with which score and reason, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nexa_checks import register_checks
from nexa_checks.refusals import OPENINGS
from nexa_core import ScoreColumns, UsageError

SPECS = {spec.name: spec for spec in register_checks()}


def build(name: str, **options: Any) -> Any:
    spec = SPECS[name]
    return spec.build(spec.options().model_validate({"field": "response", **options}))


def score(name: str, texts: list[str | None], **options: Any) -> ScoreColumns:
    return build(name, **options).score(pa.table({"response": pa.array(texts, pa.string())}))


def test_the_plugin_hands_over_specs_without_loading_arrow_or_pydantic() -> None:
    """Listing checks and metrics costs no heavy import."""
    code = (
        "import sys, nexa_checks; list(nexa_checks.register_checks()), "
        "list(nexa_checks.register_metrics()); "
        "sys.exit(str({'pyarrow', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_empty_fails_missing_and_white_space_of_any_alphabet() -> None:
    """A text of no-break spaces is empty, and one of characters that nobody sees; a zero is not."""
    blank = [None, "", " \n\t", "\u00a0\u3000", "\u200b\ufeff \u2060", "\x00\x1b"]
    found = score("empty", [*blank, "0", "\u200b0", "\u3000漢", "é"])
    assert found.failed.to_pylist() == [True] * 6 + [False] * 4
    assert found.values.to_pylist() == [0.0] * 6 + [1.0] * 4
    assert found.reasons.to_pylist() == ["no text"] * 6 + [None] * 4


def test_truncated_fails_answers_that_met_the_token_limit() -> None:
    """Only the finish reason `length` fails; an unknown one does not apply."""
    check = SPECS["truncated"].build(
        SPECS["truncated"].options()(finish_field="response_finish_reason")
    )
    found = check.score(pa.table({"response_finish_reason": ["length", "stop", None]}))
    assert found.failed.to_pylist() == [True, False, None]
    assert found.values.to_pylist() == [0.0, 1.0, None]


def test_truncated_does_not_apply_to_data_without_a_finish_reason() -> None:
    """A dataset that a model did not just write gets no verdict."""
    check = SPECS["truncated"].build(
        SPECS["truncated"].options()(finish_field="response_finish_reason")
    )
    found = check.score(pa.table({"response": ["a", "b"]}))
    assert found.failed.null_count == found.values.null_count == 2


def test_runaway_reads_the_text_before_stop_trimming() -> None:
    """The raw text decides where there is one, the final text where there is none."""
    table = pa.table(
        {
            "response": ["fine", "fine", "cut\nInput: x", None],
            "response_raw_text": ["fine\nInput: y", "fine\n\n", None, None],
        }
    )
    check = build("runaway", delimiters=["\nInput:", "##"], raw_field="response_raw_text")
    found = check.score(table)
    assert found.failed.to_pylist() == [True, False, True, None]
    assert found.reasons.to_pylist() == ["runs on '\\nInput:'", None, "runs on '\\nInput:'", None]


def test_runaway_names_the_delimiter_it_found() -> None:
    """Of several delimiters the first listed one that occurs is the reason."""
    texts = ["a###b", "a\nQ: b", "a### \nQ:", "a"]
    found = score("runaway", texts, delimiters=["\nQ:", "###", "<end>"])
    assert found.reasons.to_pylist() == ["runs on '###'", *["runs on '\\nQ:'"] * 2, None]


def test_delimiter_leakage_reads_the_final_text_alone() -> None:
    """What stop-trimming took away has not leaked."""
    table = pa.table({"response": ["a", "a###"], "response_raw_text": ["a###", "a###"]})
    assert build("delimiter_leakage", delimiters=["###"]).score(table).failed.to_pylist() == [
        False,
        True,
    ]


@pytest.mark.parametrize("delimiter", [".*", "a|b", "\\", "(", "é", "\x00", "[x]", "$", " "])
def test_delimiters_are_taken_literally(delimiter: str) -> None:
    """No character of a delimiter is read as a pattern."""
    found = score("delimiter_leakage", [f"x{delimiter}y", "zzz"], delimiters=[delimiter])
    assert found.failed.to_pylist() == [True, False]


def test_many_delimiters_with_different_starts_are_all_found() -> None:
    """However delimiters are grouped into patterns, each one counts."""
    delimiters = [f"{letter}{letter}#" for letter in "abcdefghij"]
    found = score("runaway", [*(f"-{d}-" for d in delimiters), "-ab#-"], delimiters=delimiters)
    assert found.failed.to_pylist() == [True] * 10 + [False]
    assert found.reasons.to_pylist()[9] == "runs on 'jj#'"


@pytest.mark.parametrize("name", ["runaway", "delimiter_leakage"])
@pytest.mark.parametrize("delimiters", [None, []])
def test_no_delimiters_is_an_error_before_the_run(name: str, delimiters: Any) -> None:
    """A check that could never fail is refused, and says what to write."""
    with pytest.raises(
        UsageError, match=rf"'{name}' does not know its `delimiters`.*delimiters: …"
    ):
        build(name, delimiters=delimiters)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m really sorry, but I cannot write that letter.",
        "Sorry, I can't do that.",
        '  \n"I cannot assist with this request."',
        "**I apologize, but** it is not possible to say.",
        "**I'm sorry**, but I cannot do that.",
        "I apologize for the confusion, but I am not able to browse.",
        "Unfortunately, I do not have that information.",
        "As an AI language model, I have no favourite colour.",
        "I'm just an AI, so no.",
        "I don't have access to the internet.",
        "I must respectfully decline.",
        "It is not appropriate for me to answer.",
        "i am unable to provide medical advice",
    ],
)
def test_refusals_are_recognised_by_their_opening(text: str) -> None:
    """The shipped openings fail what chat models write when they refuse."""
    assert score("refusal", [text]).failed.to_pylist() == [True]


@pytest.mark.parametrize("opening", OPENINGS)
@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_every_text_with_a_shipped_opening_is_a_refusal(opening: str, data: st.DataObject) -> None:
    """The quick look at the first words overlooks none of the openings, in either case."""
    text = data.draw(st.from_regex(rf"\A{opening}", alphabet=st.characters(max_codepoint=127)))
    texts = [text, f' "{text}', text.upper(), text.replace("'", "’")]
    assert score("refusal", texts).failed.to_pylist() == [True] * 4


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that you were ill.",
        "I can't believe how well this worked!",
        "As an aid to memory, use rhymes.",
        "Sorry seems to be the hardest word is a song by Elton John.",
        "The patient said: I'm sorry, but I can't help it.",
        "Unfortunately, the sample melted.",
        "I do not like green eggs and ham.",
    ],
)
def test_answers_that_only_sound_sorry_pass(text: str) -> None:
    """An apology in an answer is no refusal."""
    assert score("refusal", [text]).failed.to_pylist() == [False]


def test_refusal_patterns_can_be_given_for_another_language() -> None:
    """Own patterns replace the shipped ones and are tried at the start only."""
    texts = ["Es tut mir leid, aber nein.", "Nun: es tut mir leid", "I cannot help"]
    found = score("refusal", texts, patterns=["es tut mir leid"])
    assert found.failed.to_pylist() == [True, False, False]


def test_a_broken_refusal_pattern_is_an_error_before_the_run() -> None:
    """The pattern is quoted with what RE2 says of it."""
    with pytest.raises(UsageError, match=r"'refusal' cannot use the pattern 'a\(\?=b'"):
        build("refusal", patterns=["a(?=b"])


def test_length_counts_characters_not_bytes() -> None:
    """Bounds include both ends; the score is the number of characters."""
    found = score("length", ["éé", "ééé", "éééé", "ééééé", None], min_chars=3, max_chars=4)
    assert found.failed.to_pylist() == [True, False, False, True, None]
    assert found.values.to_pylist() == [2.0, 3.0, 4.0, 5.0, None]
    assert found.reasons.to_pylist()[0] == "2 of at least 3 characters"
    assert found.reasons.to_pylist()[3] == "5 of at most 4 characters"


def test_length_takes_the_models_tokens_where_it_counted_them() -> None:
    """The reason says tokens, and a row without a count gets no verdict on them."""
    table = pa.table(
        {"response": ["a b c", "a", "a"], "response_tokens": pa.array([9, 2, None], pa.int32())}
    )
    found = build("length", min_tokens=5, tokens_field="response_tokens").score(table)
    assert found.values.to_pylist() == [9.0, 2.0, None]
    assert found.failed.to_pylist() == [False, True, None]
    assert found.reasons.to_pylist()[1] == "2 of at least 5 tokens"


def test_length_fails_on_one_bound_whatever_the_other_cannot_tell() -> None:
    """Too few characters fail, tokens counted or not; a row without text gets no verdict."""
    table = pa.table(
        {"response": ["a", "abc", None], "response_tokens": pa.array([None, None, 7], pa.int32())}
    )
    check = build("length", min_chars=2, max_tokens=5, tokens_field="response_tokens")
    assert check.score(table).failed.to_pylist() == [True, None, None]


def test_length_counts_words_where_no_model_counted_tokens() -> None:
    """The reason says words, so that nobody takes them for tokens."""
    found = score("length", ["one two", "one\u00a0two three"], min_tokens=3)
    assert found.values.to_pylist() == [2.0, 3.0]
    assert found.reasons.to_pylist() == ["2 of at least 3 words", None]


def test_length_gives_the_first_bound_that_breaks() -> None:
    """A text too short in both units is rejected for its characters, listed first."""
    found = score("length", ["a b", "a b c d e f"], min_chars=5, min_tokens=9)
    assert found.reasons.to_pylist() == ["3 of at least 5 characters", "6 of at least 9 words"]


@pytest.mark.parametrize("options", [{}, {"min_chars": 5, "max_chars": 4}, {"min_chars": -1}])
def test_length_bounds_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    """No bound, crossed bounds and negative ones are errors of the file."""
    with pytest.raises(ValidationError):
        build("length", **options)


def test_repetition_fails_texts_that_say_themselves_again() -> None:
    """The score is the share of distinct word sequences; short texts pass."""
    found = score(
        "repetition", ["one two three four " * 10, "each word is its own here", "a", None]
    )
    assert found.failed.to_pylist() == [True, False, False, None]
    assert found.values.to_pylist() == [pytest.approx(4 / 37), 1.0, 1.0, None]
    assert found.reasons.to_pylist()[0] == "89 % of its 4-word sequences repeat"


def test_repetition_counts_no_sequence_across_two_rows() -> None:
    """Two equal rows repeat each other, not themselves."""
    for text in ("a b c d", "a b c d e"):
        found = score("repetition", [text] * 3, max_share=0.0)
        assert found.values.to_pylist() == [1.0] * 3


def test_exact_duplicates_keep_the_first_row_over_shards() -> None:
    """A text seen in an earlier shard, or earlier in this one, fails; missing texts never do."""
    check, shards = build("exact_duplicates"), [["a", "b", "a", None], ["b", "c", None, "a"]]
    state, found = check.start(), []
    for shard in shards:
        state, columns = check.fold(state, pa.table({"response": pa.array(shard, pa.string())}))
        found += columns.failed.to_pylist()
    assert found == [False, False, True, None, True, False, None, True]


def test_exact_duplicates_can_ignore_case_and_spacing() -> None:
    """What counts as the same text is the user's choice."""
    table = pa.table(
        {"response": ["Lead melts.", " lead  MELTS.\n", "lead\u00a0melts.", "Leadmelts."]}
    )
    for options, expected in (
        ({}, [False] * 4),
        ({"ignore_case": True, "ignore_space": True}, [False, True, True, False]),
    ):
        check = build("exact_duplicates", **options)
        assert check.fold(check.start(), table)[1].failed.to_pylist() == expected


def test_exact_duplicates_over_columns_compare_them_apart() -> None:
    """`ab` + `c` is not `a` + `bc`, and a missing second column is not an empty one."""
    table = pa.table({"q": ["ab", "a", "ab", "x", "x"], "response": ["c", "bc", "c", None, ""]})
    check = build("exact_duplicates", columns=["q", "response"])
    assert check.fold(check.start(), table)[1].failed.to_pylist() == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_fold_leaves_the_state_it_was_given_as_it_was() -> None:
    """A shard folded again after a crash gets the same verdict."""
    check, table = build("exact_duplicates"), pa.table({"response": ["a", "b"]})
    start = check.start()
    first, second = check.fold(start, table), check.fold(start, table)
    assert first[1].failed.to_pylist() == second[1].failed.to_pylist() == [False, False]


def test_unknown_options_are_refused() -> None:
    """A misspelt key does not fall silent."""
    with pytest.raises(ValidationError, match="min_char"):
        build("length", min_char=3)
