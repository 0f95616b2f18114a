"""Reads replies: text, reasoning, tool calls, why it ended, usage with the billed cost, quotas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nexa_core import CallFailed, Charge, Completion, Failure, FinishReason, Quota, Usage
from nexa_openai.coding import encode
from nexa_openai.failures import charge_of, classify

_ENDINGS: Mapping[Any, str] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_BROKEN_OFF = frozenset(["error", "abort"])
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOST = 1 << 53


def read_completion(
    body: Mapping[str, Any], quota: Quota | None = None, unstated: Usage | None = None
) -> Completion:
    """The completion of a reply.

    `unstated` stands for the usage where the reply states none.

    Raises:
        CallFailed: The reply holds an error, no choice, or nothing because it was filtered.
    """
    choice = find_choice(body)
    message = choice.get("message")
    ending = choice.get("finish_reason")
    if ending in _BROKEN_OFF or choice.get("error"):
        raise _fail(body, Failure.OVERLOAD, f"the reply was broken off ({ending or 'error'})")
    if isinstance(message, dict):
        text = _join(message.get("content")) or _join(message.get("refusal"))
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        calls = message.get("tool_calls") or None
    else:
        text, reasoning, calls = _join(choice.get("text")), choice.get("reasoning"), None
    if ending == "content_filter" and not text:
        raise _fail(body, Failure.REFUSED_CONTENT, "the provider's filter took the answer away")
    logprobs = choice.get("logprobs")
    return Completion(
        text,
        _ENDINGS.get(ending, FinishReason.STOP),
        read_usage(body, unstated),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        tool_calls=calls if isinstance(calls, list) else None,
        logprobs=logprobs.get("content") if isinstance(logprobs, dict) else None,
        served_by=read_server(body),
        raw=body,
        quota=quota,
    )


def trim(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion up to its first stop sequence, for servers that send that along."""
    text = completion.text
    ends = [end for one in stop if one and (end := text.find(one)) >= 0]
    if not ends:
        return completion
    return replace(completion, text=text[: min(ends)], raw_text=text)


def find_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of a reply.

    Raises:
        CallFailed: There is none.
    """
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    error = body.get("error")
    if error:
        raise _explain_error(body, error)
    raise _fail(body, Failure.BAD_REPLY, "the reply holds no choice")


def read_usage(body: Mapping[str, Any], unstated: Usage | None = None) -> Usage:
    """The tokens of a reply, and its price where the provider bills it with the reply (dollars)."""
    usage = body.get("usage")
    if not isinstance(usage, dict) or not usage:
        return unstated or Usage()
    prompt = usage.get("prompt_tokens_details")
    answer = usage.get("completion_tokens_details")
    cached = prompt.get("cached_tokens") if prompt else usage.get("prompt_cache_hit_tokens")
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(cached),
        _count(answer.get("reasoning_tokens")) if answer else 0,
        _read_cost(usage) if "cost" in usage else None,
        _count(prompt.get("cache_write_tokens")) if prompt else 0,
    )


def read_server(body: Mapping[str, Any]) -> str | None:
    """Who answered, as far as the reply says: PROVIDER/MODEL, or the model alone."""
    model, provider = body.get("model"), body.get("provider")
    if not isinstance(model, str):
        return provider if isinstance(provider, str) else None
    return f"{provider}/{model}" if provider and isinstance(provider, str) else model


def read_quota(headers: Mapping[str, str]) -> Quota | None:
    """What the provider says is left, from `x-ratelimit-…` headers."""
    requests = headers.get("x-ratelimit-remaining-requests")
    tokens = headers.get("x-ratelimit-remaining-tokens")
    if requests is None and tokens is None:
        return None
    spans = [headers.get(f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens")]
    resets = [seconds for span in spans if (seconds := read_span(span)) is not None]
    return Quota(_whole(requests), _whole(tokens), max(resets, default=None))


def read_span(text: str | None) -> float | None:
    """Seconds of a span as providers write it: 20ms, 1.5s, 6m0s, or plain seconds."""
    if not text:
        return None
    parts = _SPAN.findall(text)
    if parts:
        return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    try:
        return float(text)
    except ValueError:
        return None


def _explain_error(body: Mapping[str, Any], error: Any) -> CallFailed:
    """An error that came with status 200, as OpenRouter sends those of the providers behind it."""
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    failure = classify(status, str(error).lower())
    charge = charge_of(status)
    return CallFailed(
        failure,
        " ".join(str(message)[:300].split()),
        Charge.KNOWN if body.get("usage") else charge,
        status=status,
        usage=read_usage(body) if body.get("usage") else None,
        raw=encode(body).decode(),
    )


def _fail(body: Mapping[str, Any], failure: Failure, problem: str) -> CallFailed:
    known = isinstance(body.get("usage"), dict)
    return CallFailed(
        failure,
        problem,
        Charge.KNOWN if known else Charge.UNKNOWN,
        status=200,
        usage=read_usage(body) if known else None,
        raw=encode(body).decode(),
    )


def refuse_server(body: Mapping[str, Any], wanted: str) -> CallFailed:
    """The failure of a reply that another model served than the role's `must_be` names."""
    served = read_server(body) or "a model that the reply does not name"
    return _fail(body, Failure.BAD_REPLY, f"must_be is '{wanted}', and {served} answered")


def _join(content: Any) -> str:
    """Text as it is, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [one.get("text") for one in content if isinstance(one, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _read_cost(usage: Mapping[str, Any]) -> int | None:
    """Nano-dollars. With a key of one's own the provider behind the router bills besides."""
    cost = usage.get("cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < 1e6:
        return None
    details = usage.get("cost_details")
    if usage.get("is_byok") and isinstance(details, dict):
        upstream = details.get("upstream_inference_cost")
        cost += upstream if isinstance(upstream, int | float) and upstream > 0 else 0
    return round(cost * 1e9)


def _count(value: Any) -> int:
    """A number of tokens; whatever is none counts as 0."""
    if type(value) is int:
        return value if 0 <= value < _MOST else 0
    return int(value) if isinstance(value, float) and 0 <= value < _MOST else 0


def _whole(text: str | None) -> int | None:
    try:
        return max(0, int(float(text))) if text else None
    except (ValueError, OverflowError):
        return None
