"""The key of an endpoint: where it comes from, and that it is never shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexa_openai.addresses import is_under

if TYPE_CHECKING:
    from nexa_core import Role
    from nexa_openai.providers import Provider


class Secret:
    """A text that neither prints nor pickles; `reveal` gives it to what must have it."""

    __slots__ = ("_encoded", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._encoded = text.encode()

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not stored")

    def __bool__(self) -> bool:
        return bool(self._text)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def hide_in(self, body: bytes) -> bytes:
        """The body with every occurrence of the secret struck out."""
        if self._encoded and self._encoded in body:
            return body.replace(self._encoded, b"[key]")
        return body


def find_key_name(role: Role, provider: Provider, url: str) -> str | None:
    """The variable that holds the role's key.

    The provider's usual variable serves the provider's own host alone: a pipeline that names
    another host must say itself which key goes there.
    """
    if role.api_key_env:
        return role.api_key_env
    return provider.key_env if is_under(url, provider.key_host) else None


def read_key(name: str | None) -> Secret:
    """The key in a variable; an empty secret where there is none."""
    return Secret((os.environ.get(name) or "").strip() if name else "")
