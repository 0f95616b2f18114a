"""Turns what pydantic found wrong in a user's values into one error with the value, the reason, the fix and the line."""

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


def validate(
    model: type[M],
    data: Any,
    locate: Locate = lambda keys: None,
    error: type[NexaError] = UsageError,
    prefix: str = "",
    name: Callable[[Sequence[Key]], str] | None = None,
) -> M:
    """An instance of `model` made of `data`, or `error` about its first mistake; the rest are counted.

    `prefix` stands before key paths in messages (`check 'length'`); `name` writes a key path the way
    the user would.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(data)
    except ValidationError as cause:
        write = name or dotted
        found = _merge_unions(cause, data)
        keys, details = found[0]
        problem, fix = _explain(model, keys, details, data, prefix, write)
        if len(found) > 1:
            others = ", ".join(f"'{write(other)}'" for other, _ in found[1:6])
            problem += f" ({len(found) - 1} more: {others}.)"
        raise error(problem, fix, locate(keys)) from cause


def dotted(keys: Sequence[Key]) -> str:
    """A key path as text: `models.teacher.price`, `steps[2]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def _merge_unions(
    cause: ValidationError, data: Any
) -> list[tuple[tuple[Key, ...], list[ErrorDetails]]]:
    """The mistakes by the key path in the user's data; the branches of a union make one mistake."""
    found: dict[tuple[Key, ...], list[ErrorDetails]] = {}
    for details in cause.errors():
        keys = _keys_in(data, details["loc"], keep_last=details["type"] == "missing")
        found.setdefault(keys, []).append(details)
    return list(found.items())


def _keys_in(data: Any, loc: Sequence[Key], keep_last: bool) -> tuple[Key, ...]:
    """The part of a pydantic location that exists in the data; tags of unions do not."""
    keys: list[Key] = []
    node = data
    for i, part in enumerate(loc):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif not (keep_last and i == len(loc) - 1):
            continue
        keys.append(part)
    return tuple(keys)


def _explain(
    model: type[BaseModel],
    keys: tuple[Key, ...],
    found: list[ErrorDetails],
    data: Any,
    prefix: str,
    write: Callable[[Sequence[Key]], str],
) -> tuple[str, str]:
    """Problem and fix of one mistake."""
    details = found[0]
    where = " ".join(part for part in (prefix, write(keys)) if part)
    if details["type"] == "extra_forbidden":
        parent = " ".join(part for part in (prefix, write(keys[:-1])) if part)
        return _explain_unknown(str(keys[-1]), parent, _fields_at(model, details["loc"][:-1]))
    if details["type"] == "missing":
        parent = " ".join(part for part in (prefix, write(keys[:-1])) if part) or "the file"
        return f"'{details['loc'][-1]}' is missing in {parent}.", f"Add `{details['loc'][-1]}: …`."
    reasons = list(dict.fromkeys(_reason(item) for item in found))
    reason = " or ".join(reasons)
    subject = f"'{where}'" if where else "this file"
    value = _quote(details["input"])
    if details["type"] == "value_error" and isinstance(details["input"], dict | list):
        return f"{subject} does not work: {reason}.", ""
    return f"{value} does not work for {subject}: {reason}.", ""


def _explain_unknown(key: str, parent: str, fields: Sequence[str]) -> tuple[str, str]:
    near = suggest(key, fields)
    listed = f"Allowed: {', '.join(fields)}." if fields else ""
    hint = f"Did you mean '{near}'?" if near else ""
    return f"'{key}' is no key of {parent or 'this file'}.", " ".join(filter(None, (listed, hint)))


_WORDS = {
    "float_type": "a number is needed",
    "int_type": "a whole number is needed",
    "bool_type": "true or false is needed",
    "string_type": "text is needed",
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "dict_type": "a mapping is needed",
    "model_type": "a mapping is needed",
    "model_attributes_type": "a mapping is needed",
}


def _reason(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind in _WORDS:
        return _WORDS[kind]
    context = details.get("ctx", {})
    if kind == "literal_error":
        return f"one of {context['expected']} is needed"
    if kind == "string_pattern_mismatch":
        return f"it must match {context['pattern']}"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message.rstrip(".") if kind == "value_error" else f"it should be {message}"


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
