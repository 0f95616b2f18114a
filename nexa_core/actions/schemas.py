"""JSON Schemas of the files a user writes, as editors use them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

__all__ = ["gate_schema", "pipeline_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COLUMNS = {"type": "array", "items": {"type": "string"}}
_STEPS = {
    "generate": "GenerateStep",
    "judge": "JudgeStep",
    "critic": "CriticStep",
}


def pipeline_schema() -> dict[str, Any]:
    """The schema of a pipeline file: as it is written, not as it is resolved."""
    from nexa_core.pipeline import Pipeline

    schema = deepcopy(Pipeline.model_json_schema(mode="validation"))
    kinds = schema["$defs"]
    schema["properties"]["steps"] = {"type": "array", "minItems": 1, "items": _step_schema(kinds)}
    _loosen_accept(kinds["Accept"])
    _loosen_options(kinds["Train"])
    _loosen_options(kinds["Package"])
    _loosen_stop(kinds["Sampling"])
    schema["properties"]["fail_over"] = {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": "%$"},
        ]
    }
    return {"$schema": _DIALECT, **schema, "title": "nexa pipeline"}


def _step_schema(kinds: dict[str, Any]) -> dict[str, Any]:
    """A step is a mapping with its kind as the only key."""
    options = [_one_key(kind, {"$ref": f"#/$defs/{name}"}) for kind, name in _STEPS.items()]
    use = {
        "anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]
    }
    check = {"anyOf": [*use["anyOf"], {"type": "array", "items": use, "minItems": 1}]}
    for unused in ("CheckStep", "CheckUse"):
        kinds.pop(unused, None)
    return {"anyOf": [*options, _one_key("check", check)]}


def _one_key(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: value},
        "required": [key],
        "additionalProperties": False,
    }


def _loosen_accept(accept: dict[str, Any]) -> None:
    """In a file the scores stand beside the other keys, by step id."""
    accept["properties"].pop("scores", None)
    accept["additionalProperties"] = {"$ref": "#/$defs/Bound"}


def _loosen_options(section: dict[str, Any]) -> None:
    """In a file the options of a trainer or a format stand beside the other keys."""
    section["properties"].pop("options", None)
    section["additionalProperties"] = True


def _loosen_stop(sampling: dict[str, Any]) -> None:
    text = {"type": "string"}
    sampling["properties"]["stop"] = {"anyOf": [text, {"type": "array", "items": text}]}


def gate_schema() -> dict[str, Any]:
    """The schema of a gate file; metrics and reviewers are whatever plugins provide."""
    share = {"type": ["number", "string"], "minimum": 0.5, "exclusiveMaximum": 1}
    return {
        "$schema": _DIALECT,
        "title": "nexa gate",
        "type": "object",
        "properties": {
            "gate": {"type": "string", "description": "The gate's name: that of its file."},
            "extends": {
                "type": "string",
                "description": "A gate whose rules this one begins with.",
            },
            "description": {"type": "string"},
            "confidence": {**share, "description": "For the whole campaign; 0.95 when not given."},
            "hard": {"type": "array", "items": _rule_schema(), "description": "Rules that decide."},
            "soft": {
                "type": "array",
                "items": _rule_schema(),
                "description": "Rules that are reported.",
            },
            "extend": {
                "type": "object",
                "properties": {"max_rows": {"type": "integer", "minimum": 0}},
                "additionalProperties": False,
                "description": "How many rows one iteration may take.",
            },
            "reviewers": {"type": "array", "items": _use_schema()},
            "slices": {
                "anyOf": [_COLUMNS, _slices_schema()],
                "description": "Columns for each value of which the hard rules are measured too.",
            },
        },
        "additionalProperties": False,
    }


def _slices_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"by": _COLUMNS, "hard": {"type": "boolean"}},
        "required": ["by"],
        "additionalProperties": False,
    }


def _rule_schema() -> dict[str, Any]:
    from nexa_core.gates.rules import OPERATORS

    number = {"type": ["number", "string"], "pattern": "%\\s*$"}
    return {
        "type": "object",
        "properties": {"metric": _use_schema(), **dict.fromkeys(OPERATORS, number)},
        "required": ["metric"],
        "additionalProperties": False,
        "oneOf": [{"required": [operator]} for operator in OPERATORS],
    }


def _use_schema() -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]
    }
