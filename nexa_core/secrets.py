"""What must never be written down: the keys in the environment, and texts that look like keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit

__all__ = ["find_keys", "holds_key", "is_key_name", "looks_like_key", "redact"]

_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
_SHORTEST = 8
_NAME = re.compile(
    r"(^|[-_])(auth|key|token|secret|password|cookie|credential)s?($|[-_])", re.IGNORECASE
)
_JOINED = re.compile(r"authori[sz]ation|api_?key|access_?token", re.IGNORECASE)
_BEARER = re.compile(r"^\s*(bearer|basic)\s+\S", re.IGNORECASE)
_TEXT = re.compile(r"\b((sk|gsk|xai)-|(hf|gh[pousr])_|AIza)(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}")


def find_keys(
    names: Iterable[str] = (), environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables that hold keys, by their name's ending or because `names` has them."""
    wanted = set(names)
    return {
        name: value
        for name, value in environment.items()
        if len(value) >= _SHORTEST and (name in wanted or name.upper().endswith(_VARIABLES))
    }


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with the keys of the environment replaced by the names of their variables."""
    for name, value in find_keys((), environment).items():
        text = text.replace(value, f"‹{name}›")
    return text


def is_key_name(name: str) -> bool:
    """Whether a header, parameter or setting of this name is there to carry a key."""
    return bool(_NAME.search(name) or _JOINED.search(name))


def holds_key(url: str) -> bool:
    """Whether a URL carries a password or a key."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return False
    return (
        "@" in parts.netloc
        or any(is_key_name(name) for name, _ in query)
        or looks_like_key(parts.path)
        or any(looks_like_key(value) for _, value in query)
    )


def looks_like_key(text: str) -> bool:
    """Whether a text is written as keys are: `Bearer …`, `sk-…`."""
    return bool(_BEARER.search(text) or _TEXT.search(text))
