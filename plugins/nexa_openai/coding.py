"""JSON to and from bytes: the fast way, and the forgiving one where that refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from nexa_core import CallFailed, Charge, Failure, StrictJson


def encode(value: object) -> bytes:
    """A value as JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half characters and numbers beyond 64 bits
        return json.dumps(value).encode()


def decode(body: bytes) -> Mapping[str, Any]:
    """The object that a body holds.

    Raises:
        CallFailed: It holds none; what it cost is not known.
    """
    try:
        value = orjson.loads(body)
    except ValueError:
        value = _decode_forgivingly(body)
    else:
        if isinstance(value, dict):
            return StrictJson(value)
    if isinstance(value, dict):
        return value
    text = body.decode("utf-8", "replace")
    shown = " ".join(text[:120].split())
    problem = f"the reply is no JSON object: {shown}" if shown else "the reply is empty"
    raise CallFailed(Failure.BAD_REPLY, problem, Charge.UNKNOWN, status=200, raw=text)


def _decode_forgivingly(body: bytes) -> Any:
    """Half characters and control characters in strings do not make a paid reply worthless."""
    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
