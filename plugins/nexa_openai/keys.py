"""The key of an endpoint: where it comes from, and that it is never shown."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

from nexa_openai.addresses import is_under

if TYPE_CHECKING:
    from nexa_core import Role
    from nexa_openai.providers import Provider


class Secret:
    """A text that neither prints nor pickles; `reveal` gives it to what must have it."""

    __slots__ = ("_forms", "_text", "is_word")

    def __init__(self, text: str) -> None:
        self._text = text
        self.is_word = len(text) < _SHORTEST_KEY or (text.isalpha() and text.islower())
        """It may be a word like any other, as `ollama` is where a server wants any key at all."""
        self._forms = _write_forms(text) if text else ()

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not stored")

    def __bool__(self) -> bool:
        return bool(self._text)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def hide_in_data(self, body: bytes) -> bytes:
        """`hide_in` for what a model wrote: a secret that is a word is left, as text that is data."""
        return body if self.is_word else self.hide_in(body)

    def hide_in(self, body: bytes) -> bytes:
        """The body with every occurrence of the secret struck out, however a server may repeat it."""
        for form in self._forms:
            if form in body:
                body = body.replace(form, b"[key]")
        return body


def _write_forms(text: str) -> tuple[bytes, ...]:
    """A key as it is, in a URL, in JSON, and in base64 by itself and behind `Bearer `.

    In base64 only what does not depend on the bytes before and after it.
    """
    plain = text.encode()
    forms = [plain, quote(text, safe="").encode(), quote(text).encode()]
    forms += [json.dumps(text)[1:-1].encode(), plain.replace(b"/", b"\\/")]
    for lead in (b"", b"x", b"xx"):  # three ways to stand in groups of three bytes
        encoded = b64encode(lead + plain)
        start, end = (0, 2, 3)[len(lead)], len(lead + plain) // 3 * 4
        forms += [encoded[start:end], encoded[start:end].translate(_URL_SAFE)]
    return tuple(dict.fromkeys(form for form in forms if len(form) > _SHORTEST))


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_SHORTEST = 5
_SHORTEST_KEY = 16
"""No provider's own keys are shorter; words are."""


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
