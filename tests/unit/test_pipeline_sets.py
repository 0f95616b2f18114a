"""`--set PATH=VALUE`: the dotted path in the file, a step id or a section first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa_core.errors import PipelineFileError, Place, UsageError
from nexa_core.pipeline import load_pipeline, pipeline_from
from nexa_core.shipped import shipped_folder

DISTILL = Path(__file__).parent.parent / "data" / "pipelines" / "distill.yaml"
BOOTSTRAP = shipped_folder("pipelines") / "bootstrap.yaml"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("answer.sampling.temperature=0.9", "answer.sampling.temperature", 0.9),
        ("accept.min_score=0.75", "accept.min_score", 0.75),
        ("length.min_chars=10", "length.min_chars", 10),
        ("truncated.on_fail=flag", "truncated.on_fail", "flag"),
        ("source.path=a b.jsonl", "source.path", "a b.jsonl"),
        ("models.teacher.extra_body={top: [1, 2]}", "models.teacher.extra_body.top", [1, 2]),
        ("search_space.answer.sampling.temperature.max=0.8", "search_space", None),
        ("budget=", "budget", None),
        ("evaluate.scorer=contains", "evaluate.scorer", "contains"),
        ("steps.0.generate.samples=3", "answer.samples", 3),
        ('answer.prompt.user="{{ prompt }}="', "answer.prompt.user", "{{ prompt }}="),
    ],
)
def test_a_value_is_put_where_its_path_says(text: str, path: str, value: Any) -> None:
    """Values are YAML; ids of steps and checks lead into the list of steps."""
    pipeline = load_pipeline(DISTILL, [text])
    if value is not None or path == "budget":
        assert pipeline.value_at(path) == value


def test_a_key_with_dots_is_found_whole() -> None:
    """The paths of the search space are keys that hold dots."""
    text = "search_space.answer.sampling.temperature.max=0.8"
    space = load_pipeline(DISTILL, [text]).search_space["answer.sampling.temperature"]
    assert (space.min, space.max) == (0.1, 0.8)


def test_an_absent_section_is_made_and_a_gate_by_name_is_extended() -> None:
    """`budget.usd=40` needs no budget; a path into a named gate keeps the name as its base."""
    pipeline = load_pipeline(BOOTSTRAP, ["budget.usd=40", "gate.extend.max_rows=1200"])
    assert pipeline.value_at("budget.usd") == 40
    assert pipeline.gate == {"extends": "pilot_qc", "extend": {"max_rows": 1200}}


def test_later_sets_win() -> None:
    """In the order of the command line."""
    assert load_pipeline(BOOTSTRAP, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("respond.sampling.temperature=hot", "'hot' does not work"),
        ("respond.sampling.temprature=1", "Did you mean 'temperature'?"),
        ("respnd.sampling.top_p=1", "Did you mean 'respond'?"),
        ("seed", "Write --set PATH=VALUE"),
        ("=3", "Write --set PATH=VALUE"),
        ("seed.deeper=3", "'seed' is '0'"),
        ("steps.9.generate=3", "items 0 to 3"),
        ("accept.answrs.at_least=1", "Did you mean 'answers'?"),
        ("respond.sampling.temperature=1.5", "outside its search_space"),
        ("seed=[1", "no YAML"),
        ("seed=!!python/name:os.system", "tag"),
    ],
)
def test_a_wrong_set_quotes_itself(text: str, says: str) -> None:
    """The error points at the command line, not at a line of the file that is right."""
    with pytest.raises(UsageError) as error:
        load_pipeline(BOOTSTRAP, ["seed=0", text])
    assert says in str(error.value)
    assert error.value.place == Place(f"--set {text}")


def test_a_callers_values_are_left_alone() -> None:
    """Setting values changes no dict that was handed in."""
    data = load_pipeline(BOOTSTRAP).resolved()
    pipeline_from(data, ["respond.sampling.top_p=0.8"])
    assert data == load_pipeline(BOOTSTRAP).resolved()


def test_the_file_on_disk_is_left_alone() -> None:
    """Setting values changes no file and no other load."""
    before = BOOTSTRAP.read_bytes()
    load_pipeline(BOOTSTRAP, ["seed=9"])
    assert BOOTSTRAP.read_bytes() == before
    assert load_pipeline(BOOTSTRAP).seed == 0


def test_a_set_does_not_hide_a_mistake_of_the_file(tmp_path: Path) -> None:
    """A mistake elsewhere keeps its line."""
    path = tmp_path / "p.yaml"
    path.write_text(BOOTSTRAP.read_text().replace("max_iterations", "max_iteration"))
    with pytest.raises(PipelineFileError) as error:
        load_pipeline(path, ["seed=1"])
    assert str(error.value.place).startswith(f"{path}:")
