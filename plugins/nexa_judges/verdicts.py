"""What a judge must reply: a JSON object with the reason before the scores, checked field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

__all__ = ["InvalidReplyError", "Verdicts"]

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_SHOWN = 3


class InvalidReplyError(ValueError):
    """A reply that is no verdict; the message says to the model what is wrong with it."""


class Verdicts:
    """Reads verdicts of one shape: a reason, a number 0 to 1 or a choice per field, perhaps flags.

    Args:
        fields: Name to the allowed choices, or None for a number from 0 to 1.
        flags: The flags that may be raised.
    """

    def __init__(
        self, fields: Mapping[str, tuple[str, ...] | None], flags: tuple[str, ...] = ()
    ) -> None:
        self.schema = _write_schema(fields, flags)
        kinds: dict[str, Any] = {"reason": (Annotated[str, Field(min_length=1)], ...)}
        for name, choices in fields.items():
            kinds[name] = (_Share if choices is None else Literal[choices], ...)
        if flags:
            kinds["flags"] = (list[Literal[flags]], ...)  # type: ignore[valid-type]
        config = ConfigDict(extra="forbid", strict=True)
        self._model: type[BaseModel] = create_model("Verdict", __config__=config, **kinds)

    def read(self, text: str) -> dict[str, Any]:
        """The verdict in a reply, in a code fence or between other words too; nothing is guessed.

        Raises:
            InvalidReplyError: There is none, or it is not of the shape.
        """
        try:
            value = json.loads(_find_object(text))
            if not isinstance(value, dict):
                raise InvalidReplyError("the reply is no JSON object")
            return self._model.model_validate_json(json.dumps(value)).model_dump()
        except ValidationError as cause:
            told = [
                f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}" for e in cause.errors()
            ]
            raise InvalidReplyError("; ".join(told[:_SHOWN])) from None
        except json.JSONDecodeError as cause:
            raise InvalidReplyError(f"the reply is no JSON object ({cause.msg})") from None


def _find_object(text: str) -> str:
    fenced = _FENCED.findall(text)
    if len(fenced) == 1:
        return str(fenced[0])
    # From the first brace to the last: two objects side by side are no JSON, and are asked again.
    first, last = text.find("{"), text.rfind("}")
    return text[first : last + 1] if 0 <= first < last else text


def _write_schema(
    fields: Mapping[str, tuple[str, ...] | None], flags: tuple[str, ...]
) -> dict[str, Any]:
    number = {"type": "number", "minimum": 0, "maximum": 1}
    properties: dict[str, Any] = {"reason": {"type": "string"}}
    for name, choices in fields.items():
        properties[name] = number if choices is None else {"type": "string", "enum": list(choices)}
    if flags:
        properties["flags"] = {"type": "array", "items": {"type": "string", "enum": list(flags)}}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
