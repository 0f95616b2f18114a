"""The check of JSON: whether a text is valid, and whether it is of a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import as_array, read_text, require_option
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns, UsageError

if TYPE_CHECKING:
    from nexa_checks.options import JsonOptions

ASKER = "check 'json'"
_FENCED = r"(?s)\A\s*```[a-zA-Z]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```\s*\z"
_LONGEST = 160


class JsonText:
    """Fails a text that is no JSON (RFC 8259), or not of the JSON Schema given."""

    def __init__(self, options: JsonOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        self.fenced = options.fenced
        self._object = (
            _make_validator(options.schema_, options.folder)
            if options.schema_ is not None
            else None
        )

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, ASKER))
        if self.fenced:
            inside = pc.struct_field(pc.extract_regex(text, _FENCED), "inside")
            text = pc.coalesce(inside, text)
        said = [None if value is None else self._fault(value) for value in text.to_pylist()]
        reason = pa.array(said, pa.string())
        failed = pc.if_else(text.is_valid(), reason.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reason)

    def _fault(self, text: str) -> str | None:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as first:
            try:  # integers beyond 64 bits are JSON too
                value = json.loads(text, parse_constant=_refuse)
            except (ValueError, RecursionError):
                return f"no JSON: {first}"
        return self._object(value) if self._object else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _make_validator(
    schema: Mapping[str, Any] | str, folder: str | None
) -> Callable[[Any], str | None]:
    """What a value does wrong under a schema, given or in a file, in its dialect; None: nothing.

    References outside of the schema are never fetched.

    Raises:
        UsageError: The schema cannot be read, or is none.
    """
    from jsonschema import exceptions, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    content = _read_schema(Path(folder or ".", schema)) if isinstance(schema, str) else schema
    kind = validators.validator_for(content, default=validators.Draft202012Validator)
    try:
        kind.check_schema(content)
    except exceptions.SchemaError as cause:
        raise UsageError(
            f"The {ASKER} cannot use its schema: {cause.message}.", "Write a JSON Schema."
        ) from cause
    if missing := _find_missing(content):
        raise _refuse_reference(missing)
    validator = kind(content, registry=Registry())

    def find_fault(value: Any) -> str | None:
        try:
            error = exceptions.best_match(validator.iter_errors(value))
        except Unresolvable as cause:
            raise _refuse_reference(str(cause)) from cause
        return None if error is None else f"{error.json_path}: {error.message}"[:_LONGEST]

    return find_fault


def _find_missing(schema: Any) -> str | None:
    """A reference to another document than this one, which no value could be held to."""
    held = {name.partition("#")[0] for name in _each(schema, "$id")}
    named = (name.partition("#")[0] for name in _each(schema, "$ref"))
    return next((name for name in named if "://" in name and name not in held), None)


def _each(part: Any, key: str) -> Iterator[str]:
    """Every text that stands under a key, at any depth."""
    if isinstance(part, Mapping):
        if isinstance(part.get(key), str):
            yield part[key]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from _each(each, key)


def _refuse_reference(name: str) -> UsageError:
    return UsageError(
        f"The schema of the {ASKER} refers to what it does not hold: {name}.",
        "Put the definition into the schema's own $defs.",
    )


def _read_schema(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise UsageError(
            f"The {ASKER} cannot read the schema '{path}': {cause}.",
            "Name a JSON file, or write the schema into the pipeline.",
        ) from cause
