"""The checks on answers of real models: a raw base model's and an instruction-tuned one's."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nexa_checks import register_checks, register_metrics

DATA = (
    Path(os.environ.get("NEXA_CORE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "self_instruct"
)
CHECKS = {spec.name: spec for spec in register_checks()}
METRICS = {spec.name: spec for spec in register_metrics()}
DELIMITERS = {"delimiters": ["\nInput:", "\nOutput:", "\nInstruction:"]}

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"{DATA} is absent: set NEXA_CORE_SHARED_DATA"
)


def read(name: str) -> pa.Table:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return pa.Table.from_pylist([json.loads(line) for line in lines])


def build(spec: Any, **options: Any) -> Any:
    return spec.build(spec.options().model_validate({"field": "response", **options}))


def count_failed(name: str, table: pa.Table, **options: Any) -> int:
    check = build(CHECKS[name], **options)
    found = check.fold(check.start(), table)[1] if hasattr(check, "fold") else check.score(table)
    return pc.sum(found.failed).as_py()


@pytest.mark.parametrize(
    ("name", "options", "davinci", "tuned"),
    [
        ("runaway", DELIMITERS, 199, 0),
        ("delimiter_leakage", DELIMITERS, 199, 0),
        ("empty", {}, 0, 0),
        ("exact_duplicates", {}, 6, 0),
        ("refusal", {}, 0, 0),
        ("length", {"min_chars": 120}, 0, 84),
        ("repetition", {}, 244, 2),
    ],
)
def test_real_answers_fail_as_often_as_was_counted_by_hand(
    name: str, options: dict[str, Any], davinci: int, tuned: int
) -> None:
    """252 answers each of a raw base model and a tuned one, counted apart from the checks."""
    found = [count_failed(name, read(file), **options) for file in ("davinci", "text-davinci-003")]
    assert found == [davinci, tuned]


@pytest.mark.parametrize(("file", "runaways"), [("davinci", 199), ("text-davinci-003", 0)])
def test_the_runaway_metric_agrees_with_the_check(file: str, runaways: int) -> None:
    """The gate sees what the check saw, over all 252 rows."""
    outcomes = build(METRICS["runaway_rate"], **DELIMITERS).outcomes(read(file))
    assert (pc.sum(outcomes).as_py(), pc.count(outcomes).as_py()) == (runaways, 252)


def test_answers_written_by_people_pass() -> None:
    """Seed tasks: no runaway, no refusal, no repetition."""
    table = read("seed_tasks")
    assert count_failed("runaway", table, **DELIMITERS) == 0
    assert count_failed("refusal", table) == count_failed("repetition", table) == 0


@pytest.mark.parametrize(
    ("name", "davinci", "tuned"),
    [("near_duplicates", 13, 0), ("formatting", 70, 3), ("no_citations", 1, 2)],
)
def test_checks_fail_as_many_real_answers_as_before(name: str, davinci: int, tuned: int) -> None:
    """Figures of the documentation: a change of a pattern shows here first."""
    found = [count_failed(name, read(file)) for file in ("davinci", "text-davinci-003")]
    assert found == [davinci, tuned]


def test_answers_of_a_good_model_are_left_alone() -> None:
    """805 answers of Claude 2.1: at most 1 % fail any check that is meant for every text."""
    path = DATA.parent / "alpaca_eval" / "claude-2.1.jsonl"
    answers = [
        json.loads(line)["output_2"] for line in path.read_text(encoding="utf-8").splitlines()
    ]
    table = pa.table({"response": answers})
    rates = {
        name: count_failed(name, table, **options) / len(table)
        for name, options in (
            ("formatting", {}),
            ("repetition", {}),
            ("near_duplicates", {}),
            ("language", {"languages": ["en"]}),
            ("pii", {}),
            ("secrets", {}),
        )
    }
    assert max(rates.values()) <= 0.01, rates


NUMBER = re.compile(r"\d[\d,.]*\d|\d")
DISGUISES: dict[str, Callable[[str, random.Random], str]] = {
    "verbatim": lambda text, draw: text,
    "masked": lambda text, draw: NUMBER.sub(
        draw.choice(["#", "<NUM>", "X", "[NUMBER]", "__"]), text
    ),
    "changed": lambda text, draw: NUMBER.sub(lambda _: str(draw.randint(2, 9999)), text),
    "white space": lambda text, draw: re.sub(
        " ", lambda _: draw.choice(["  ", "\n", "\t", " \u00a0", " \u200b"]), text
    ),
    "white space within words": lambda text, draw: re.sub(
        "", lambda _: draw.choice(["", "", " ", "\n"]), text
    ),
    "no white space": lambda text, draw: re.sub(r"\s", "", text),
    "masked by name": lambda text, draw: NUMBER.sub(draw.choice(["{x}", "num_1", "NN", "N"]), text),
    "numbers as words": lambda text, draw: NUMBER.sub(
        lambda _: draw.choice(["three", "twelve", "forty", "two hundred"]), text
    ),
}


def read_questions(name: str) -> list[str]:
    lines = (DATA.parent / "gsm8k" / name).read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(line)["instruction"] for line in lines))


def test_every_planted_test_question_is_found_and_clean_ones_are_left() -> None:
    """GSM8K: 660 recorded test questions, disguised, among the 2,000 train questions: all and only."""
    clean, tests = read_questions("questions.jsonl"), read_questions("model_solutions.jsonl")
    draw = random.Random(4)
    check = build(CHECKS["decontamination"], evaluation_items=tests)
    for disguise in DISGUISES.values():
        planted = [f"Solve this.\n{disguise(text, draw)}\nThink first." for text in tests]
        found = check.score(pa.table({"response": planted})).failed
        assert pc.sum(found).as_py() == len(tests)
    flagged = pc.sum(check.score(pa.table({"response": clean})).failed).as_py()
    assert (len(tests), len(clean)) == (660, 2000) and flagged / len(clean) <= 0.005
