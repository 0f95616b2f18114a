"""Reads log-probabilities of single-token options out of a reply's likeliest first tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nexa_core import CallFailed, Charge, Failure
from nexa_openai.coding import encode
from nexa_openai.replies import find_choice, read_usage

_SPACES = ("Ġ", "▁")
"""How vocabularies write the space before a word."""


def read_choice(body: Mapping[str, Any], options: Sequence[str]) -> tuple[float, ...]:
    """The natural log-probability of each option, in the order asked.

    An option counts with and without a space before it: the log of the sum of both. An option that
    is not among the tokens told gets an upper bound: the log-probability of the least likely token
    told, or of all that is left beside them, whichever is lower.

    Raises:
        CallFailed: The reply tells no log-probabilities.
    """
    told = list(read_tokens(find_choice(body).get("logprobs")))
    if not told:
        raise CallFailed(
            Failure.BAD_REQUEST,
            "the reply tells no log-probabilities: use a model and endpoint that do",
            Charge.KNOWN,
            status=200,
            usage=read_usage(body),
            raw=encode(body).decode(),
        )
    by_token: dict[str, float] = {}
    for token, logprob in told:
        bare = _bare(token)
        by_token[bare] = add_logs(by_token[bare], logprob) if bare in by_token else logprob
    bound = bound_untold([logprob for _, logprob in told])
    return tuple(by_token.get(_bare(option), bound) for option in options)


def read_tokens(logprobs: Any) -> Iterable[tuple[str, float]]:
    """The likeliest first tokens of chat's form, of completions' form, or of llama.cpp's."""
    if not isinstance(logprobs, dict):
        return
    content, top = logprobs.get("content"), logprobs.get("top_logprobs")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        first: Any = content[0].get("top_logprobs") or [content[0]]
    else:
        first = top[0] if isinstance(top, list) and top else None
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(first, dict):
        pairs = first.items()
    elif isinstance(first, list):
        pairs = [(one.get("token"), one.get("logprob")) for one in first if isinstance(one, dict)]
    for token, logprob in pairs:
        if isinstance(token, str) and isinstance(logprob, int | float) and logprob <= 1e-6:
            yield token, min(0.0, float(logprob))


def bound_untold(logprobs: Sequence[float]) -> float:
    """The most that a token which is not told can have."""
    rest = 1.0 - math.fsum(math.exp(logprob) for logprob in logprobs)
    lowest = min(logprobs)
    return min(lowest, math.log(rest)) if rest > 1e-12 else lowest


def add_logs(one: float, other: float) -> float:
    """log(exp(one) + exp(other)), at most 0."""
    high, low = max(one, other), min(one, other)
    return min(0.0, high + math.log1p(math.exp(low - high)))


def _bare(token: str) -> str:
    return token.removeprefix(" ") if token[:1] not in _SPACES else token[1:]
