"""Turns what pydantic found wrong into one error: the value, the reason, the fix, the line."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from nexa_core.documents import Key
from nexa_core.errors import NexaError, Place, UsageError, suggest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["Locate", "dotted", "validate"]

Locate = Callable[[Sequence[Key]], Place | None]
"""Gives the place of a key path, or None where values did not come from a file."""
M = TypeVar("M", bound="BaseModel")
Mistake = tuple[tuple[Key, ...], list["ErrorDetails"]]
"""A key path of the user's data, and what pydantic says of it: several items for a union."""


def validate(
    model: type[M],
    data: Any,
    locate: Locate = lambda _: None,
    error: type[NexaError] = UsageError,
    prefix: str = "",
    name: Callable[[Sequence[Key]], str] | None = None,
) -> M:
    """An instance of `model` made of `data`, or `error` about its first mistake, the rest counted.

    `prefix` stands before key paths in messages (`check 'length'`); `name` writes a key path the
    way the user would.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(data)
    except ValidationError as cause:

        def write(keys: Sequence[Key]) -> str:
            return " ".join(part for part in (prefix, (name or dotted)(keys)) if part)

        found = sorted(_merge_unions(cause, data), key=lambda one: _rank(one, locate))
        keys, details = found[0]
        problem, fix = _explain(model, keys, details, write)
        if len(found) > 1:
            others = ", ".join(f"'{write(other)}'" for other, _ in found[1:6])
            problem += f" ({len(found) - 1} more: {others}.)"
        raise error(problem, fix, locate(keys)) from cause


def dotted(keys: Sequence[Key]) -> str:
    """A key path as text: `models.teacher.price`, `steps[2]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def _merge_unions(cause: ValidationError, data: Any) -> list[Mistake]:
    """The mistakes by the key path in the user's data; the branches of a union make one mistake."""
    found: dict[tuple[Key, ...], list[ErrorDetails]] = {}
    for details in cause.errors():
        keys = _keys_in(data, details["loc"], keep_last=details["type"] == "missing")
        found.setdefault(keys, []).append(details)
    deepest = [
        keys for keys in found if not any(keys == other[: len(keys)] != other for other in found)
    ]
    return [(keys, found[keys]) for keys in deepest]


def _rank(found: Mistake, locate: Locate) -> tuple[int, int]:
    """By line; but a key that is unknown comes first, since it is often why another is missing."""
    keys, details = found
    place = locate(keys)
    kind = {"extra_forbidden": 0, "missing": 2}.get(details[0]["type"], 1)
    return kind, place.line or 0 if place else 0


def _keys_in(data: Any, loc: Sequence[Key], keep_last: bool) -> tuple[Key, ...]:
    """The part of a pydantic location that exists in the data; tags of unions do not."""
    keys: list[Key] = []
    for i, part in enumerate(loc):
        found = _has(data, part)
        if found:
            data = data[part]
        if found or (keep_last and i == len(loc) - 1):
            keys.append(part)
    return tuple(keys)


def _has(node: Any, part: Key) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)


def _explain(
    model: type[BaseModel],
    keys: tuple[Key, ...],
    found: list[ErrorDetails],
    write: Callable[[Sequence[Key]], str],
) -> tuple[str, str]:
    """Problem and fix of one mistake."""
    details = found[0]
    where, parent = write(keys), write(keys[:-1])
    if details["type"] == "extra_forbidden":
        return _explain_unknown(str(keys[-1]), parent, _fields_at(model, details["loc"][:-1]))
    if details["type"] == "missing":
        parent = parent or "this file"
        return f"'{details['loc'][-1]}' is missing in {parent}.", f"Add `{details['loc'][-1]}: …`."
    subject = f"'{where}'" if where else "this file"
    reason = _join_reasons(found)
    if details["type"] in _OWN_WORDS and isinstance(details["input"], dict | list):
        return f"{subject} does not work: {reason}.", ""
    shown = (
        "This value" if "api_key_env" in keys else _quote(details["input"])
    )  # may be the key itself
    return f"{shown} does not work for {subject}: {reason}.", ""


def _explain_unknown(key: str, parent: str, fields: Sequence[str]) -> tuple[str, str]:
    near = suggest(key, fields)
    listed = f"Allowed: {', '.join(fields)}." if fields else ""
    hint = f"Did you mean '{near}'?" if near else ""
    return f"'{key}' is no key of {parent or 'this file'}.", " ".join(filter(None, (listed, hint)))


_OWN_WORDS = ("value_error", "step_kind")
"""Errors whose message is a sentence of ours."""
_NEEDED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "a list of at least {min_length}",
}


def _join_reasons(found: Sequence[ErrorDetails]) -> str:
    """One clause for all branches of a union: what would have been taken."""
    sentences = [item["msg"].removeprefix("Value error, ") for item in _own(found, True)]
    needed = dict.fromkeys(_needed(item) for item in _own(found, False))
    if needed:
        sentences.append(f"{' or '.join(needed)} is needed")
    return "; ".join(sentence.rstrip(".") for sentence in sentences)


def _own(found: Sequence[ErrorDetails], wanted: bool) -> list[ErrorDetails]:
    return [item for item in found if (item["type"] in _OWN_WORDS) is wanted]


def _needed(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Input should be ")
    text = _NEEDED.get(details["type"], f"a value {message}")
    return text.format(**details.get("ctx", {})) if details["type"] in _NEEDED else text


def _quote(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return f"'{text if len(text) <= 80 else text[:77] + '…'}'"


def _fields_at(model: type[BaseModel], loc: Sequence[Key]) -> list[str]:
    """The keys that a location of the model's tree takes, in order."""
    current: list[Any] = [model]
    for part in loc:
        current = [found for one in current for found in _descend(one, part)]
    models = [one for hint in current for one in _models_in(hint)]
    return list(dict.fromkeys(key for one in models for key in one.model_fields))


def _descend(hint: Any, part: Key) -> Iterable[Any]:
    """What stands under `part` of a type; a tag of a union leads to the union's members."""
    if _is_model(hint):
        return [hint.model_fields[part].annotation] if part in hint.model_fields else [hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _descend(arguments[0], part)
    if origin in (Union, types.UnionType):
        tagged = [one for one in arguments if part in _tags_of(one)]
        return tagged or [found for one in arguments for found in _descend(one, part)]
    if origin in (tuple, list) and isinstance(part, int):
        return [arguments[0]]
    if origin is dict:
        return [arguments[1]]
    return []


def _tags_of(hint: Any) -> list[str]:
    return [getattr(one, "tag", "") for one in get_args(hint)[1:]]


def _models_in(hint: Any) -> Iterator[type[BaseModel]]:
    if _is_model(hint):
        yield hint
    elif get_origin(hint) in (Annotated, Union, types.UnionType):
        for argument in get_args(hint):
            yield from _models_in(argument)


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "model_fields")
