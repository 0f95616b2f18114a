"""What a refusal of an endpoint means: its class, what it may have cost, how long to wait."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from nexa_core import CallFailed, Charge, Failure, ModelError, NexaError

_LENGTH = ("context_length", "maximum context", "context length", "context size", "too long")
_FILTER = ("content_filter", "content_policy", "content management policy", "moderation")
_NO_MODEL = ("model_not_found", "is not a valid model", "model does not exist", "no such model")
_NO_MONEY = ("insufficient_quota", "insufficient credits", "billing_hard_limit", "credit balance")
_WORK_MAY_BE_DONE = frozenset([502, 504, 520, 521, 522, 523, 524])


def explain_refusal(
    status: int, body: bytes, headers: Mapping[str, str], whom: str, key_name: str | None
) -> CallFailed | NexaError:
    """The error that an answer other than 2xx stands for. `whom` names the model and its address."""
    text = body.decode("utf-8", "replace")
    code, message = read_error(text, status)
    if 300 <= status < 400:
        return _explain_redirect(headers, whom)
    hint = f"{code} {message}".lower()
    if status in (401, 403) and not _mentions(hint, _FILTER):
        return _explain_key(status, whom, key_name)
    if status == 404 or _mentions(hint, _NO_MODEL):
        return ModelError(
            f"{whom} is not there: HTTP {status}, {message}.",
            "Check the model's name and the base_url, which mostly ends in /v1.",
        )
    if status == 402 or _mentions(hint, _NO_MONEY):
        return ModelError(
            f"{whom} refuses for want of money: {message}.", "Top the account up, then resume."
        )
    return CallFailed(
        classify(status, hint),
        f"HTTP {status}: {message}",
        charge_of(status),
        status=status,
        retry_after=read_retry_after(headers),
        raw=text,
    )


def classify(status: int, hint: str = "") -> Failure:
    """The class of a refusal; `hint` is its code and message in lower case."""
    if status == 429:
        return Failure.RATE_LIMIT
    if status == 408:
        return Failure.TIMEOUT
    if status >= 500 or status in (409, 425):
        return Failure.OVERLOAD
    if _mentions(hint, _FILTER) or status == 451:
        return Failure.REFUSED_CONTENT
    if status == 413 or _mentions(hint, _LENGTH):
        return Failure.LENGTH
    return Failure.BAD_REQUEST


def charge_of(status: int) -> Charge:
    """What a refusal may have cost: a gateway that gave up may hide work that was done."""
    return Charge.UNKNOWN if status in _WORK_MAY_BE_DONE or status == 408 else Charge.NONE


def read_error(text: str, status: int) -> tuple[str, str]:
    """Code and message, in one line each, of a body in any of the usual forms."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "", _shorten(text) if not text.lstrip().startswith("<") else "a web page"
    error: Any = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", _shorten(str(error)) or f"status {status}"
    found = error.get("message") or error.get("detail") or error
    code = f"{error.get('code') or ''} {error.get('type') or ''}"
    return code, _shorten(found if isinstance(found, str) else json.dumps(found))


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or from `Retry-After` (seconds or a date, RFC 9110).

    A date counts from the server's own `Date`: this machine's clock may be anywhere.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if not value:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    until, now = _read_date(value), _read_date(headers.get("date"))
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _read_date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _explain_redirect(headers: Mapping[str, str], whom: str) -> ModelError:
    from urllib.parse import urlsplit

    where = urlsplit(headers.get("location", "")).hostname or "another path"
    return ModelError(
        f"{whom} sends on to {where}, and a key is never sent after a redirect.",
        "If that is the right server, write it as the role's base_url.",
    )


def _explain_key(status: int, whom: str, key_name: str | None) -> ModelError:
    if key_name is None:
        fix = "Name the variable that holds its key: api_key_env: NAME."
        return ModelError(f"{whom} wants a key (HTTP {status}), and none was sent.", fix)
    return ModelError(
        f"{whom} refuses the key in ${key_name} (HTTP {status}).",
        f"Put a valid key into {key_name}, in the environment or .env.",
    )


def _mentions(hint: str, words: tuple[str, ...]) -> bool:
    return any(word in hint for word in words)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:299]}…"
