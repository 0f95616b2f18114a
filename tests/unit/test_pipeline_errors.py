"""What a pipeline file gets wrong: quoted, explained, with what would work and the line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_core.errors import PipelineFileError, Place, UnknownNameError, UsageError
from nexa_core.pipeline import load_pipeline

Write = Callable[[str, str], Path]

FILE = """\
nexa: 1
name: x
source: {path: rows.jsonl}
models:
  base: {model: local/nexa-tiny}
steps:
  - generate: {id: respond, model: base, prompt: p, sampling: {temperature: 0.4}}
  - check: [empty, {length: {min_chars: 3}}]
  - critic: {id: good, model: base, prompt: c}
accept: {good: {at_least: 0.5}}
search_space:
  respond.sampling.temperature: {min: 0.1, max: 1.0}
"""

MISTAKES = [
    # what is written instead of what, the line, what the message says
    ("name: x", "nmae: x", 2, "'nmae' is no key of this file", "Did you mean 'name'?"),
    ("nexa: 1", "nexa: 2", 1, "'2' does not work for 'nexa'", ""),
    ("{path: rows.jsonl}", "{file: rows.jsonl}", 3, "'file' is no key of source", "Allowed: path"),
    ("{path: rows.jsonl}", "{}", 3, "'path' is missing in source", "`path: …`"),
    ("local/nexa-tiny", "gpt-4o", 5, "'gpt-4o' does not work for 'models.base.model'", ""),
    (
        "temperature: 0.4",
        "temprature: 0.4",
        7,
        "of respond.sampling",
        "Did you mean 'temperature'?",
    ),
    ("temperature: 0.4", "temperature: hot", 7, "'hot' does not work", ""),
    ("temperature: 0.4", "temperature: true", 7, "a number is needed", ""),
    ("temperature: 0.4", "seed: 4", 7, "the pipeline's `seed` gives every request its own", ""),
    ("temperature: 0.4", "temperature: 1.5", 12, "outside its search_space of 0.1 to 1.0", "Widen"),
    ("prompt: p", "prompt: {text: a, user: b}", 7, "an inline prompt is either", ""),
    ("id: respond", "id: Respond!", 7, "text that matches", ""),
    ("- check:", "- chekc:", 8, "a step is one key: generate, check, judge or critic", ""),
    ("{good: {at_least: 0.5}}", "{min_score: 80}", 10, "less than or equal to 1", ""),
    ("{good: {at_least: 0.5}}", "{min_skore: 0.8}", 10, "the nearest key is 'min_score'", ""),
    ("{good: {at_least: 0.5}}", "{good: 0.5}", 10, "write `good: {at_least: 0.5}`", ""),
    ("[empty, {", "[{a: 1, b: 2}, {", 8, "a check is written NAME or {NAME: {option: value}}", ""),
    ("{min_chars: 3}", "{on_fail: warn}", 8, "'reject' or 'flag' is needed", ""),
    (
        "id: good",
        "id: empty",
        9,
        "Two steps have the id 'empty', the first at",
        "an `id` of its own",
    ),
    ("id: good", "id: accept", 9, "a section or setting has that name", "another `id`"),
    ("at_least: 0.5", "at_most: 0.5", 10, "'at_most' is no key of accept.good", "at_least, below"),
    ("{at_least: 0.5}", "{at_least: 2, below: 1}", 10, "no score can pass", ""),
    ("respond.sampling.temp", "respond.sampling.tmp", 12, "nothing that a reviewer may", "Tunable"),
    (
        "respond.sampling.temperature: {",
        "accept.good.at_least: {",
        12,
        "nothing that a rev",
        "never",
    ),
    (
        "respond.sampling.temperature: {",
        "respond.sampling.top_p: {",
        12,
        "has no start value",
        "--set",
    ),
    ("{min: 0.1, max: 1.0}", "{min: 0.1}", 12, "{min: …, max: …} or {choices: […]}", ""),
    (
        "prompt: p,",
        "prompt: p, into: scores,",
        7,
        "'scores' cannot be written into",
        "another name",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "problem", "fix"), MISTAKES)
def test_each_mistake_is_named_where_it_stands(
    write: Write, old: str, new: str, line: int, problem: str, fix: str
) -> None:
    """The error quotes what was written, says why not and what would work, with file and line."""
    path = write("p.yaml", FILE.replace(old, new))
    with pytest.raises(PipelineFileError) as error:
        load_pipeline(path)
    assert error.value.place == Place(str(path), line)
    assert problem in error.value.problem
    assert fix in error.value.fix


def test_the_file_without_mistakes_loads(write: Write) -> None:
    """So each error above comes from its own mistake."""
    assert load_pipeline(write("p.yaml", FILE)).name == "x"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("model: base, prompt: p", "model: bass, prompt: p", 7, "No model role is called 'bass'"),
        ("accept: {good:", "accept: {god:", 10, "No score is called 'god'"),
    ],
)
def test_unknown_names_are_suggested(
    write: Write, old: str, new: str, line: int, says: str
) -> None:
    """A reference to nothing lists what there is and the nearest."""
    path = write("p.yaml", FILE.replace(old, new))
    with pytest.raises(UnknownNameError, match="Did you mean") as error:
        load_pipeline(path)
    assert says in error.value.problem
    assert error.value.place == Place(str(path), line)


def test_several_mistakes_are_counted(write: Write) -> None:
    """The first is explained, the others are named."""
    path = write("p.yaml", FILE.replace("name: x", "nam: x").replace("at_least", "at_lest"))
    with pytest.raises(PipelineFileError, match=r"^'nam' is no key .*\(2 more: 'accept.good"):
        load_pipeline(path)


@pytest.mark.parametrize(
    "role", ["{Authorization: Bearer sk-1}", "{X-Api-Key: sk-1}", "{api-key: sk-1}"]
)
def test_a_key_in_the_file_is_refused_and_not_repeated(write: Write, role: str) -> None:
    """What would be written into every run must not hold a secret, nor may the error."""
    model = f"{{model: openai/x, headers: {role}}}"
    path = write("p.yaml", FILE.replace("{model: local/nexa-tiny}", model))
    with pytest.raises(PipelineFileError, match="api_key_env") as error:
        load_pipeline(path)
    assert "sk-1" not in str(error.value)


def test_a_key_in_place_of_its_name_is_not_repeated(write: Write) -> None:
    """`api_key_env: sk-…` is the common slip; the error must not print the key."""
    model = "{model: openai/x, api_key_env: sk-proj-1}"
    path = write("p.yaml", FILE.replace("{model: local/nexa-tiny}", model))
    with pytest.raises(PipelineFileError, match="api_key_env") as error:
        load_pipeline(path)
    assert "sk-proj-1" not in str(error.value)


def test_rows_must_come_from_somewhere(write: Write) -> None:
    """Neither a source nor a generate step: nothing to do."""
    path = write("p.yaml", "nexa: 1\nname: x\nsteps: [{check: [empty]}]\n")
    with pytest.raises(PipelineFileError, match="there are no rows"):
        load_pipeline(path)


@pytest.mark.parametrize("text", ["", "- a\n", "just text"])
def test_a_file_that_is_no_mapping_says_how_to_begin(write: Write, text: str) -> None:
    """An empty file, a list and a sentence are no pipelines."""
    with pytest.raises(PipelineFileError, match="Begin with `nexa: 1`"):
        load_pipeline(write("p.yaml", text))


def test_a_missing_file_is_a_usage_error() -> None:
    """Exit code 2, and no traceback."""
    with pytest.raises(UsageError, match=r"There is no file 'absent\.yaml'"):
        load_pipeline("absent.yaml")
