"""What an exception of LiteLLM means: its class, what the try may have cost, how long to wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nexa_core import CallFailed, Charge, Failure, ModelError, NexaError

_KEY_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
_FREE = frozenset([400, 404, 409, 413, 422, 429, 503, 529])
_CLASSES = {
    "ContextWindowExceededError": Failure.LENGTH,
    "ContentPolicyViolationError": Failure.REFUSED_CONTENT,
    "RejectedRequestError": Failure.REFUSED_CONTENT,
    "Timeout": Failure.TIMEOUT,
    "APIConnectionError": Failure.CONNECTION,
    "APIResponseValidationError": Failure.BAD_REPLY,
}
_NOT_SENT = frozenset(["ConnectError", "ConnectTimeout", "ClientConnectorError"])


def explain(error: Exception, whom: str) -> CallFailed | NexaError:
    """The failure that an exception stands for; `whom` names the model.

    LiteLLM gives status 500 also to replies that it cannot read and to connections that break, so
    of its 5xx only 503 and 529 are taken to be free.
    """
    status = _find_status(error)
    text = hide_keys(" ".join(str(getattr(error, "message", error)).split())[:300])
    kind = next((_CLASSES[c.__name__] for c in type(error).__mro__ if c.__name__ in _CLASSES), None)
    final = _explain_final(status, text, whom)
    if final is not None:
        return final
    not_sent = any(c.__name__ in _NOT_SENT for one in _chain(error) for c in type(one).__mro__)
    failure = Failure.CONNECTION if not_sent else kind or _classify(status)
    return CallFailed(
        failure,
        text or type(error).__name__,
        Charge.NONE if not_sent else _charge(failure, status),
        status=status,
        retry_after=_find_wait(error),
        raw=text,
    )


def hide_keys(text: str) -> str:
    """The text with the values of every key in the environment struck out."""
    for name, value in os.environ.items():
        if len(value) >= 8 and any(word in name.upper() for word in _KEY_WORDS):
            text = text.replace(value, "[key]")
    return text


def _explain_final(status: int | None, text: str, whom: str) -> ModelError | None:
    if status is not None and 300 <= status < 400:
        fix = "If that is the right server, write it as the role's base_url."
        return ModelError(f"{whom} sends on, and a key is never sent after a redirect.", fix)
    if status in (401, 403):
        fix = "Put a valid key into the provider's variable, or name another with api_key_env."
        return ModelError(f"{whom} refuses the key (HTTP {status}).", fix)
    if status == 402:
        return ModelError(f"{whom} refuses for want of money: {text}.", "Top the account up.")
    if status == 404:
        return ModelError(f"{whom} is not there: {text}.", "Check the model's name and base_url.")
    return None


def _classify(status: int | None) -> Failure:
    if status == 429:
        return Failure.RATE_LIMIT
    if status == 408:
        return Failure.TIMEOUT
    if status == 413:
        return Failure.LENGTH
    if status is not None and 400 <= status < 500 and status != 409:
        return Failure.BAD_REQUEST
    return Failure.OVERLOAD


def _charge(failure: Failure, status: int | None) -> Charge:
    if failure in (Failure.TIMEOUT, Failure.CONNECTION, Failure.BAD_REPLY):
        return Charge.UNKNOWN
    return Charge.NONE if status in _FREE else Charge.UNKNOWN


def _find_status(error: Exception) -> int | None:
    """The status of the answer itself, where one is at the root of the error, else the error's own."""
    found = [getattr(one, "status_code", None) for one in _chain(error)]
    numbers = [one for one in found if isinstance(one, int)]
    redirects = [one for one in numbers if 300 <= one < 400]
    return redirects[0] if redirects else next(iter(numbers), None)


def _find_wait(error: Exception) -> float | None:
    for one in _chain(error):
        headers = getattr(one, "headers", None) or {}
        try:
            return max(0.0, float(headers["retry-after"]))
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _chain(error: BaseException) -> Iterator[Any]:
    """The error, what it came from, and the answers that these hold, some of them made up."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        answer = getattr(seen, "response", None)
        if answer is not None:
            yield answer
        seen = seen.__cause__ or seen.__context__
