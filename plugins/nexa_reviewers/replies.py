"""What a reviewing model must reply: one JSON object, checked field by field, nothing guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexa_core import Evidence

__all__ = ["InvalidReplyError", "Vote", "read_vote", "write_schema"]

_LONGEST = 20_000
_SHOWN = 3
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)

Value = (
    bool
    | int
    | Annotated[float, Field(allow_inf_nan=False)]
    | Annotated[str, Field(max_length=200)]
)


class InvalidReplyError(ValueError):
    """A reply that is no vote; the message says to the model what is wrong with it."""


class Change(BaseModel):
    """One parameter's new value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: Annotated[str, Field(max_length=200)]
    value: Value


class Vote(BaseModel):
    """What one ask came to."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: Annotated[str, Field(min_length=1, max_length=4_000)]
    veto: bool
    changes: Annotated[list[Change], Field(max_length=50)]
    cites: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=50)]
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

    @property
    def patch(self) -> dict[str, Any]:
        """New values by path."""
        return {change.path: change.value for change in self.changes}

    def cited(self, evidence: Evidence) -> list[str]:
        """The cited ids that are in the evidence."""
        return [cite for cite in dict.fromkeys(self.cites) if cite in evidence.ids]


def read_vote(text: str) -> Vote:
    """The vote in a reply, in a code fence or between other words too.

    Raises:
        InvalidReplyError: There is none, or it is not of the shape.
    """
    if len(text) > _LONGEST:
        raise InvalidReplyError(f"the reply has more than {_LONGEST:,} characters")
    try:
        value = json.loads(_find_object(text))
        if not isinstance(value, dict):
            raise InvalidReplyError("the reply is no JSON object")
        vote = Vote.model_validate_json(json.dumps(value))
    except ValidationError as cause:
        told = [f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}" for e in cause.errors()]
        raise InvalidReplyError("; ".join(told[:_SHOWN])) from None
    except (ValueError, RecursionError) as cause:
        if isinstance(cause, InvalidReplyError):
            raise
        raise InvalidReplyError("the reply is no JSON object") from None
    if len(vote.patch) < len(vote.changes):
        raise InvalidReplyError("changes: a path is named twice")
    return vote


def write_schema(evidence: Evidence) -> Mapping[str, Any]:
    """The JSON schema of a reply: only paths of the search space, and only ids there are."""
    paths = sorted(evidence.search_space)
    change = {
        "type": "object",
        "properties": {
            "path": {"type": "string", **({"enum": paths} if paths else {})},
            "value": {"type": ["number", "string", "boolean"]},
        },
        "required": ["path", "value"],
        "additionalProperties": False,
    }
    properties: dict[str, Any] = {
        "reason": {"type": "string"},
        "veto": {"type": "boolean"},
        "changes": {"type": "array", "items": change},
        "cites": {"type": "array", "items": {"type": "string", "enum": sorted(evidence.ids)}},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _find_object(text: str) -> str:
    fenced = _FENCED.findall(text)
    if len(fenced) == 1:
        return str(fenced[0])
    first, last = text.find("{"), text.rfind("}")
    return text[first : last + 1] if 0 <= first < last else text
