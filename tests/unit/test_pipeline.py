"""Pipeline files as a frozen tree: what they say, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nexa_core.errors import PipelineFileError, Place, UnknownNameError
from nexa_core.pipeline import (
    CheckStep,
    GenerateStep,
    InlinePrompt,
    Pipeline,
    Term,
    from_resolved,
    load_pipeline,
    pipeline_from,
)
from nexa_core.shipped import shipped_folder

BOOTSTRAP = shipped_folder("pipelines") / "bootstrap.yaml"
EXAMPLES = ["bootstrap", "audit", "distill"]


def load(name: str, *sets: str) -> Pipeline:
    folders = (Path(__file__).parent.parent / "data" / "pipelines", shipped_folder("pipelines"))
    path = next(f / f"{name}.yaml" for f in folders if (f / f"{name}.yaml").is_file())
    return load_pipeline(path, sets)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_design_load_as_written(name: str) -> None:
    """Each loads without a warning and is called what it says."""
    pipeline = load(name)
    assert (pipeline.name, pipeline.warnings) == (name, ())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_resolved_pipeline_is_itself_a_pipeline(name: str) -> None:
    """Through JSON and back nothing is lost: the same tree, the same hash, the same resolution."""
    pipeline = load(name)
    again = from_resolved(json.loads(json.dumps(pipeline.resolved())))
    assert again == pipeline
    assert (again.hash, again.resolved()) == (pipeline.hash, pipeline.resolved())


def test_the_hash_follows_the_values_and_nothing_else(write: Callable[[str, str], Path]) -> None:
    """A comment or a default written out leaves it; another value changes it."""
    text = BOOTSTRAP.read_text()
    same = load_pipeline(write("same.yaml", f"# a comment\n{text}\nseed: 0\n"))
    assert same.hash == load("bootstrap").hash
    assert load("bootstrap", "seed=1").hash != same.hash


def test_a_pipeline_is_frozen() -> None:
    """No part of it changes under a run."""
    with pytest.raises(ValidationError, match="frozen"):
        load("bootstrap").seed = 3  # type: ignore[misc]


def test_steps_have_the_ids_and_defaults_of_the_design() -> None:
    """A step's id is its kind; a check's is its name; options, id and on_fail are told apart."""
    data = minimal(steps=[{"check": ["empty", {"length": {"min_chars": 3, "on_fail": "flag"}}]}])
    step = pipeline_from(data).steps[0]
    assert isinstance(step, CheckStep)
    assert [(c.id, c.name, c.on_fail, c.options) for c in step.checks] == [
        ("empty", "empty", "reject", {}),
        ("length", "length", "flag", {"min_chars": 3}),
    ]
    generate = {"generate": {"model": "m", "prompt": "p"}}
    assert pipeline_from(minimal(steps=[generate])).steps[0].id == "generate"


def test_scores_are_declared_in_the_order_of_steps() -> None:
    """Checks, judges and critics each have one; steps that generate have none."""
    assert load("bootstrap").score_ids == ("clear", "answers")
    assert load("distill").score_ids[:3] == ("truncated", "refusal", "length")
    assert load("distill").score_ids[-3:] == ("factual", "reasoning", "near_duplicates")


def test_a_prompt_is_a_name_or_inline() -> None:
    """`{system, user}` is chat, `{text}` is completions."""
    step = load("distill").step("answer")
    assert isinstance(step, GenerateStep)
    assert step.prompt == InlinePrompt(system="You are a careful scientist.", user="{{ prompt }}")
    text = load("bootstrap", "propose.prompt={text: 'Q:'}").step("propose")
    assert isinstance(text, GenerateStep)
    assert text.prompt == InlinePrompt(text="Q:")


def test_the_steps_sampling_lies_over_its_roles() -> None:
    """Only keys that are set are sent; a critic samples as its role does."""
    sets = ("models.base.sampling={temperature: 1.0, top_k: 40}", "respond.sampling.stop=x")
    pipeline = load("bootstrap", *sets)
    respond = pipeline.effective_sampling(pipeline.step("respond"))
    assert (respond["temperature"], respond["top_k"], respond["stop"]) == (0.4, 40, ["x"])
    assert "min_p" not in respond
    assert pipeline.effective_sampling(pipeline.step("clear")) == {"temperature": 1.0, "top_k": 40}
    assert pipeline.value_at("respond.sampling.top_k") == 40


def test_a_model_reference_is_provider_and_reference() -> None:
    """Only the first slash parts them."""
    role = load("distill").models["judge"]
    assert (role.provider, role.reference) == ("openrouter", "openai/gpt-4o")


def test_accept_is_an_ordered_conjunction() -> None:
    """Terms by step in the order of the file, then the judges together, then flags."""
    accept = load("bootstrap", "answers.id=answers").accept
    assert accept is not None
    assert accept.terms == (
        Term("clear", "clear", 0.5, None),
        Term("answers", "answers", 0.5, None),
    )
    judged = load("distill").accept
    assert judged is not None
    assert judged.retry is not None
    assert [term.name for term in judged.terms] == ["min_score", "no_flags"]
    assert (judged.consensus, judged.eager, judged.retry.attempts) == ("all", True, 1)


def test_the_answer_is_the_last_generated_column_else_a_usual_name() -> None:
    """A pipeline without generation finds the answer among the source's columns."""
    assert load("bootstrap").answer_field() == "response"
    assert load("audit").answer_field(["instruction", "output", "text"]) == "output"
    assert load("audit").answer_field(["x"]) is None


def test_what_a_section_does_not_know_goes_to_the_trainer() -> None:
    """`train` keeps method and model, the rest are the trainer's options."""
    train = load("bootstrap", "train.epochs=3").train
    assert train is not None
    assert (train.method, train.options) == ("qlora", {"epochs": 3})


def test_a_share_may_be_a_percentage() -> None:
    """`fail_over: 5%` is 0.05."""
    assert load("bootstrap", "fail_over=2.5%").fail_over == 0.025


def test_an_unused_role_warns_with_its_line() -> None:
    """A role that nothing asks for is odd, not wrong; reviewers and scorers count as use."""
    pipeline = load("bootstrap", "models.spare={model: hf/gpt2}")
    assert pipeline.warnings == (
        "No step uses the model role 'spare'. --set models.spare={model: hf/gpt2}",
    )


def test_a_patch_is_validated_like_a_file() -> None:
    """Values at dotted paths give another pipeline; the first stays, a wrong value is an error."""
    pipeline = load("bootstrap")
    patched = pipeline.with_values(
        {"respond.sampling.temperature": 0.2, "respond.sampling.top_k": 5}
    )
    assert patched.value_at("respond.sampling.temperature") == 0.2
    assert pipeline.value_at("respond.sampling.temperature") == 0.4
    with pytest.raises(PipelineFileError, match="outside its search_space"):
        pipeline.with_values({"respond.sampling.temperature": 1.9})


def test_a_path_reads_and_places_values() -> None:
    """Step id or section first; what is not set is None, what cannot be is an error."""
    pipeline = load("bootstrap")
    assert pipeline.value_at("accept.clear.at_least") == 0.5
    assert pipeline.value_at("budget.usd") is None
    assert pipeline.place("respond.sampling") == Place(str(BOOTSTRAP), 10)
    with pytest.raises(PipelineFileError, match="names nothing"):
        pipeline.value_at("respnd.sampling")
    with pytest.raises(UnknownNameError, match="Did you mean 'respond'"):
        pipeline.step("respnd")


def minimal(**over: Any) -> dict[str, Any]:
    """The least that declares a pipeline, as Python values."""
    least: dict[str, Any] = {
        "nexa": 1,
        "name": "x",
        "source": {"path": "rows.jsonl"},
        "models": {"m": {"model": "local/nexa-tiny"}},
        "steps": [{"check": ["empty"]}],
    }
    return {**least, **over}
