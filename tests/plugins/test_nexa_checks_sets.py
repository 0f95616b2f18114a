"""What looks beyond one row: near duplicates, contamination, majority, diversity."""

from __future__ import annotations

import random
import re
from typing import Any

import pyarrow as pa
import pytest

from nexa_checks import register_checks, register_metrics
from nexa_checks.near_duplicates import choose_bands
from nexa_checks.shingles import hash_letter_views, hash_word_sequences, hash_words
from nexa_core import UsageError

SPECS = {spec.name: spec for spec in register_checks()}
ITEM = (
    "Natalia sold 48 clips to her friends in April, and then half as many in May. How many in all?"
)


def build(name: str, **options: Any) -> Any:
    spec = SPECS[name]
    return spec.build(spec.options().model_validate({"field": "response", **options}))


def write(count: int, seed: int, words: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(900)}" for _ in range(words)) for _ in range(count)]


def change(text: str, at: int) -> str:
    words = text.split()
    return " ".join([*words[:at], "changed", *words[at + 1 :]])


def fold(check: Any, *shards: list[str]) -> list[bool | None]:
    state, found = check.start(), []
    for texts in shards:
        state, columns = check.fold(state, pa.table({"response": pa.array(texts, pa.string())}))
        found += columns.failed.to_pylist()
    return found


def test_near_duplicates_are_found_within_and_across_shards() -> None:
    """One word of sixty is changed; the first is kept, and what is unlike stays."""
    texts = write(40, 1)
    again = [change(text, 3) for text in texts]
    assert fold(build("near_duplicates"), texts, again) == [False] * 40 + [True] * 40
    assert fold(build("near_duplicates"), [*texts, *again]) == [False] * 40 + [True] * 40


def test_near_duplicates_do_not_depend_on_where_shards_end() -> None:
    """Only kept rows are remembered, so that a chain of small changes is cut the same everywhere."""
    chain = write(1, 2)
    for at in range(0, 50, 5):
        chain.append(change(chain[-1], at))
    whole = fold(build("near_duplicates"), chain)
    assert True in whole and whole.count(False) > 1
    assert fold(build("near_duplicates"), *([text] for text in chain)) == whole


def test_near_duplicates_ignore_case_and_signs_but_not_other_words() -> None:
    """Writing without spaces is compared by character; texts without words get no verdict."""
    text = "The cat sat on the mat and looked at the dog"
    found = fold(build("near_duplicates"), [text, f"«{text.upper()}»!", text[::-1], "…", ""])
    assert found == [False, True, False, None, None]
    chinese = "混合物被缓慢加热直到沸腾然后在室温下冷却并静置一整夜再次测量它的质量和体积"
    assert fold(build("near_duplicates"), [chinese, chinese + "。"]) == [False, True]


def test_near_duplicates_meet_rows_of_earlier_runs() -> None:
    """`against` rows come before the first."""
    texts = write(3, 3)
    earlier = [pa.table({"response": texts[:1]})]
    check = build("near_duplicates", against=["run-1"], open_rows={"run-1": earlier}.__getitem__)
    assert fold(check, texts) == [True, False, False]
    exact = build("exact_duplicates", against=["run-1"], open_rows={"run-1": earlier}.__getitem__)
    assert fold(exact, texts) == [True, False, False]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_nine_in_ten_pairs_at_the_threshold(threshold: float) -> None:
    """And as few as can be of the pairs far below it."""
    bands, rows = choose_bands(threshold)
    assert 1 - (1 - threshold**rows) ** bands >= 0.9
    assert 1 - (1 - (threshold / 2) ** rows) ** bands < 0.35


def test_hashes_of_sequences_do_not_depend_on_what_stands_around() -> None:
    """A row hashes alike alone and among others, in any slice."""
    texts = pa.array(["", "eins zwei drei vier", "é a", None, "zwei drei"])

    def hash_letters(text: pa.Array, size: int) -> Any:
        return hash_letter_views(text, size, hash_words(["zwei"]))[1]

    for make in (hash_word_sequences, hash_letters):
        whole = make(texts, 2)
        for row in range(len(texts)):
            alone = make(texts.slice(row, 1), 2)
            start, end = whole.offsets[row], whole.offsets[row + 1]
            assert whole.hashes[start:end].tolist() == alone.hashes.tolist()
    assert len(set(hash_word_sequences(texts, 2).hashes.tolist())) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: re.sub(r"\d+", "<NUM>", text),
        lambda text: re.sub(r"\d+", "1234", text),
        lambda text: text.replace(" ", " \u00a0\n\t"),
        lambda text: text.replace("a", "a\u200b"),
        lambda text: f"Solve this step by step.\n{text.upper()}\nAnswer with a number.",
    ],
)
def test_contamination_is_found_through_numbers_space_and_case(change: Any) -> None:
    """Also within a longer text."""
    check = build("decontamination", evaluation_items=[ITEM])
    found = check.score(
        pa.table({"response": [change(ITEM), "A question of one's own about clips."]})
    )
    assert found.failed.to_pylist() == [True, False]


def test_contamination_is_looked_for_in_question_answer_and_conversation() -> None:
    """The pipeline's own items are filled in, more are added by name."""
    turns = [[{"role": "user", "content": ITEM}, {"role": "assistant", "content": "72"}], None]
    table = pa.table({"prompt": ["x", ITEM[::-1]], "response": ["y", "z"], "messages": turns})
    opened = {"set.jsonl": [pa.table({"question": [ITEM[::-1]]})]}.__getitem__
    options: dict[str, Any] = {
        "evaluation_items": [ITEM],
        "items": ["set.jsonl"],
        "open_rows": opened,
    }
    own = build("decontamination", **options, prompt_field="prompt")
    assert own.score(table).failed.to_pylist() == [False, True]
    both = build("decontamination", **options, columns=["messages", "prompt"])
    assert both.score(table).failed.to_pylist() == [True, True]


def test_short_items_are_met_by_their_equals_alone() -> None:
    """What is 2 + 2 is not what is 3 + 5."""
    check = build("decontamination", evaluation_items=["What is 2 + 2?"])
    found = check.score(pa.table({"response": ["what is 2+2", "What is 3 + 5?"]}))
    assert found.failed.to_pylist() == [True, False]


def test_contamination_without_items_is_a_mistake() -> None:
    """A check that compares with nothing would pass everything."""
    with pytest.raises(UsageError, match="nothing to compare with"):
        build("decontamination")


def test_diversity_scores_what_is_new() -> None:
    """Word pairs of earlier rows and of the row itself are not new."""
    check = build("diversity", min_new=0.5)
    state, found = check.fold(
        check.start(), pa.table({"response": ["a b c", "a b d", "", "x x x"]})
    )
    assert found.values.to_pylist() == [1.0, 0.5, None, 0.5]
    _, later = check.fold(state, pa.table({"response": ["a b c"]}))
    assert later.failed.to_pylist() == [True]


def test_distinct_n_is_a_mean_over_answers() -> None:
    """Distinct-2 of `a b a b` is two of three."""
    spec = next(spec for spec in register_metrics() if spec.name == "distinct_n")
    metric = spec.build(spec.options().model_validate({"field": "response"}))
    assert metric.outcomes(pa.table({"response": ["a b a b", "a b"]})).to_pylist() == [2 / 3, 1.0]
