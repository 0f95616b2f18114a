"""The JSON Schemas say what files may hold: what runs fits them, what is refused does not."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from nexa_core.shipped import shipped_folder

ROOT = Path(__file__).parents[2]


CHECKED: dict[str, jsonschema.Draft202012Validator] = {}


def schema(invoke, kind: str) -> jsonschema.Draft202012Validator:
    """The schema that the command prints, itself checked once."""
    if kind not in CHECKED:
        found = json.loads(invoke("schema", kind).out)
        jsonschema.Draft202012Validator.check_schema(found)
        CHECKED[kind] = jsonschema.Draft202012Validator(found)
    return CHECKED[kind]


def load(text: str):
    """A YAML text as plain values."""
    return YAML(typ="safe").load(text)


def test_every_pipeline_fits(invoke):
    """Shipped pipelines and those of the design are valid as they are written."""
    validator = schema(invoke, "pipeline")
    for path in [
        *shipped_folder("pipelines").glob("*.yaml"),
        *(ROOT / "tests/data/pipelines").glob("*.yaml"),
    ]:
        validator.validate(load(path.read_text()))


def test_every_gate_fits(invoke):
    """So are the shipped gates."""
    validator = schema(invoke, "gate")
    for path in shipped_folder("gates").glob("*.yaml"):
        validator.validate(load(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        "stepps: []",
        "steps: [{generate: {id: a, modle: m}}]",
        "steps: []",
        "steps: [{generate: {}, check: empty}]",
        "fail_over: 3",
        "seed: high",
        "accept: {clear: 0.5}",
    ],
)
def test_mistakes_do_not_fit(invoke, change):
    """An editor underlines what `nexa validate` refuses."""
    pipeline = load("{nexa: 1, name: p, steps: [{check: empty}]}") | load(change)
    assert not schema(invoke, "pipeline").is_valid(pipeline)


@pytest.mark.parametrize(
    "rule",
    ["{metric: x}", "{metric: x, below: 1, at_least: 0}", "{below: 1}", "{metric: x, under: 1}"],
)
def test_a_rule_needs_one_operator(invoke, rule):
    """A gate's rule has a metric and exactly one of below, at_least, equals."""
    assert not schema(invoke, "gate").is_valid(load(f"{{gate: g, hard: [{rule}]}}"))
