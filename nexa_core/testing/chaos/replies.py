"""The body of a reply: text, JSON, tool calls or log-probabilities for a request, and its usage.

A token is four characters, in prompts and in answers alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from nexa_core.structured import find_schema
from nexa_core.testing.chaos.answers import find_answer, read_answers, uniform, write_prose
from nexa_core.testing.chaos.schemas import draw_instance
from nexa_core.testing.chaos.settings import Settings

__all__ = ["Ask", "Reply", "Writer", "count_tokens", "read_ask", "read_mode"]

TOKEN_CHARS = 4
MESSAGE_TOKENS = 4
_REFUSAL = "I'm sorry, but I can't help with that request."


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the server understands it; `key` is the hash of its body."""

    key: bytes
    chat: bool
    body: Mapping[str, Any]
    prompt: str
    prompt_tokens: int
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's body as JSON, and what it would be billed, in nano-dollars."""

    data: bytes
    prompt_tokens: int
    completion_tokens: int
    bill: int


@dataclass(slots=True)
class _Text:
    text: str
    finish: str
    tool_calls: list[dict[str, Any]] | None = None
    refusal: str | None = None


def count_tokens(text: str) -> int:
    return -(-len(text) // TOKEN_CHARS)


def read_ask(raw: bytes, chat: bool) -> Ask:
    """A request's body, understood.

    Raises:
        ValueError: it is no request that this server can answer.
    """
    body = json.loads(raw.decode())
    if not isinstance(body, dict) or body.get("stream"):
        raise ValueError("The body must be an object, and 'stream' is not offered.")
    prompt, tokens = _read_prompt(body, chat)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError("'max_tokens' must be a positive integer.")
    return Ask(blake2b(raw, digest_size=16).digest(), chat, body, prompt, tokens, limit)


def _read_prompt(body: Mapping[str, Any], chat: bool) -> tuple[str, int]:
    if not chat:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise ValueError("'prompt' must be a string.")
        return prompt, count_tokens(prompt)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a list with at least one message.")
    texts = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        texts.append(content or "")
    tokens = sum(count_tokens(text) + MESSAGE_TOKENS for text in texts)
    return "\n".join(texts), tokens


class Writer:
    """Writes the reply to a request: always the same for the same request and settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._answers = read_answers(settings.answers)
        special = (settings.answers, settings.providers, settings.reasoning_tokens)
        self._is_plain = not any((*special, settings.cached_share, settings.states_cost))

    def write(self, ask: Ask, fault: str | None = None, share: float = 1.0) -> Reply:
        """The reply, with what is wrong with its content.

        Args:
            share: Of the price, as batches have it.

        Raises:
            ValueError: the request's schema cannot be followed.
        """
        plain = self._is_plain and fault is None and _SPECIAL.isdisjoint(ask.body)
        if plain and find_schema(ask.prompt) is None:
            return self._write_plain(ask, share)
        return self.write_fully(ask, fault, share)

    def write_fully(self, ask: Ask, fault: str | None = None, share: float = 1.0) -> Reply:
        """`write` without its short cut for plain requests, which gives the same body."""
        settings, count = self._settings, int(ask.body.get("n") or 1)
        texts = [self._write_text(ask, fault, number) for number in range(count)]
        spent = sum(count_tokens(t.text + json.dumps(t.tool_calls or "")[1:-1]) for t in texts)
        spent += settings.reasoning_tokens * count
        if settings.bills_maximum and ask.max_tokens is not None:
            spent = ask.max_tokens * count
        cached = int(ask.prompt_tokens * settings.cached_share)
        bill = settings.prices.cost(ask.prompt_tokens, spent, cached, share)
        body = {
            "id": f"{'chatcmpl' if ask.chat else 'cmpl'}-{ask.key.hex()}",
            "object": "chat.completion" if ask.chat else "text_completion",
            "created": 1_700_000_000,
            "model": ask.body.get("model", ""),
            "choices": [self._choice(ask, text, number) for number, text in enumerate(texts)],
            "system_fingerprint": "fp_chaos",
        }
        if settings.providers:
            position = int(uniform(ask.key + b"provider") * len(settings.providers))
            body["provider"] = settings.providers[position]
        if fault != "no_usage":
            body["usage"] = self._usage(ask, spent, cached, bill)
        data = _encode(body).encode("utf-8", "surrogatepass")
        return Reply(data, ask.prompt_tokens, spent, bill)

    def _write_plain(self, ask: Ask, share: float) -> Reply:
        """Prose in a body that is put together, not encoded: most requests, ten times as fast."""
        settings, limit = self._settings, ask.max_tokens
        prose = write_prose(ask.key, settings.text_chars, settings.text_spread)
        text = _finish(prose, ask, None)
        spent = -(-len(text.text) // TOKEN_CHARS)
        if settings.bills_maximum and limit is not None:
            spent = limit
        bill = settings.prices.cost(ask.prompt_tokens, spent, 0, share)
        frame = _CHAT if ask.chat else _TEXT
        model = _encode(ask.body.get("model", ""))
        total = ask.prompt_tokens + spent
        filled = (ask.key.hex(), model, text.finish, text.text, ask.prompt_tokens, spent, total)
        return Reply((frame % filled).encode(), ask.prompt_tokens, spent, bill)

    def _usage(self, ask: Ask, spent: int, cached: int, bill: int) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": ask.prompt_tokens,
            "completion_tokens": spent,
            "total_tokens": ask.prompt_tokens + spent,
        }
        if cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if self._settings.reasoning_tokens:
            reasoning = {"reasoning_tokens": self._settings.reasoning_tokens}
            usage["completion_tokens_details"] = reasoning
        if self._settings.states_cost:
            usage["cost"] = bill / 1e9
        return usage

    def _write_text(self, ask: Ask, fault: str | None, number: int) -> _Text:
        if fault in ("empty", "content_filter", "refusal"):
            refusal = _REFUSAL if fault == "refusal" else None
            finish = "content_filter" if fault == "content_filter" else "stop"
            return _Text("" if ask.chat else refusal or "", finish, refusal=refusal)
        key = ask.key if number == 0 else ask.key + b"#%d" % number
        tool = _required_tool(ask.body) if ask.chat else None
        if tool is not None:
            schema = tool.get("parameters", {"type": "object"})
            return _Text(
                "", "tool_calls", [_call_tool(tool, key, self._words(ask, key, fault, schema))]
            )
        text = self._words(ask, key, fault, _wanted_schema(ask))
        return _finish(text, ask, fault)

    def _words(
        self, ask: Ask, key: bytes, fault: str | None, schema: Mapping[str, Any] | None
    ) -> str:
        """A given answer, else an instance of the schema, else prose; as the fault leaves it."""
        given = find_answer(self._answers, ask.prompt)
        wanted = (ask.body.get("response_format") or {}).get("type")
        if fault == "wrong_schema":
            return '{"unexpected": true}'
        if given is None and _asks_logprobs(ask.body) and ask.max_tokens == 1:
            given = next(iter(_rank_options(key, self._settings.options)))
        if given is None and schema is not None:
            drawn = draw_instance(schema, int.from_bytes(key), self._settings.approval)
            # Told the form in words alone, a model puts its JSON into a fence.
            told = wanted is None and "tools" not in ask.body
            given = f"```json\n{json.dumps(drawn)}\n```" if told else json.dumps(drawn)
        elif given is None and wanted == "json_object":
            prose = write_prose(key, self._settings.text_chars, self._settings.text_spread)
            given = json.dumps({"answer": prose})
        if given is None:
            given = write_prose(key, self._settings.text_chars, self._settings.text_spread)
        return given[: len(given) // 2] if fault == "broken_json" else given

    def _choice(self, ask: Ask, text: _Text, number: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": number, "finish_reason": text.finish}
        count = _asks_logprobs(ask.body)
        if not ask.chat:
            choice["text"] = text.text
            choice["logprobs"] = self._completion_logprobs(ask, text.text, count) if count else None
            return choice
        message: dict[str, Any] = {"role": "assistant", "content": text.text}
        if text.tool_calls:
            message |= {"content": None, "tool_calls": text.tool_calls}
        if text.refusal:
            message |= {"content": None, "refusal": text.refusal}
        if self._settings.reasoning_tokens:
            chars = self._settings.reasoning_tokens * TOKEN_CHARS
            message["reasoning_content"] = write_prose(ask.key + b"why", chars, 0.0)
        choice["message"] = message
        if count:
            tokens = self._tops(ask.key, text.text, count)
            choice["logprobs"] = {"content": [_chat_token(*token) for token in tokens]}
        return choice

    def _completion_logprobs(self, ask: Ask, text: str, count: int) -> dict[str, Any]:
        tokens = self._tops(ask.key, text, count)
        return {
            "tokens": [token for token, _, _ in tokens],
            "token_logprobs": [logprob for _, logprob, _ in tokens],
            "top_logprobs": [top for _, _, top in tokens],
            "text_offset": [position * TOKEN_CHARS for position in range(len(tokens))],
        }

    def _tops(self, key: bytes, text: str, count: int) -> list[tuple[str, float, dict[str, float]]]:
        """Each token of a text with its log-probability and the likeliest in its place."""
        first = _rank_options(key, self._settings.options)
        pieces = [text[at : at + TOKEN_CHARS] for at in range(0, len(text), TOKEN_CHARS)]
        if text in first:
            pieces = [text]
        tokens = []
        for position, piece in enumerate(pieces):
            others = first if position == 0 else _rank_options(key + b"%d" % position, _FILLERS)
            logprob = others.get(piece, -0.05)
            top = dict(sorted({piece: logprob, **others}.items(), key=lambda one: -one[1])[:count])
            tokens.append((piece, logprob, top))
        return tokens


_SPECIAL = {"logprobs", "tools", "response_format", "n"}
_USAGE = '"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
_CHAT = (
    '{"id":"chatcmpl-%s","object":"chat.completion","created":1700000000,"model":%s,"choices":[{"index":0,'
    '"finish_reason":"%s","message":{"role":"assistant","content":"%s"}}],'
    '"system_fingerprint":"fp_chaos",' + _USAGE
)
_TEXT = (
    '{"id":"cmpl-%s","object":"text_completion","created":1700000000,"model":%s,"choices":[{"index":0,'
    '"finish_reason":"%s","text":"%s","logprobs":null}],"system_fingerprint":"fp_chaos",' + _USAGE
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_FILLERS = (" the", " of", " and", " is", " in", ".", ",", " to", " with", " by")


def _finish(text: str, ask: Ask, fault: str | None) -> _Text:
    """A text ended by a stop sequence or the limit of tokens, whichever comes first."""
    stop = ask.body.get("stop") or ()
    ends = [text.find(end) for end in ([stop] if isinstance(stop, str) else stop)]
    end = min((end for end in ends if end >= 0), default=len(text))
    limit = len(text) if ask.max_tokens is None else ask.max_tokens * TOKEN_CHARS
    if fault == "length":
        limit = min(limit, max(1, len(text) // 2))
    if limit < end:
        return _Text(text[:limit], "length")
    return _Text(text[:end], "stop")


def _asks_logprobs(body: Mapping[str, Any]) -> int:
    """How many likely tokens a request wants to see; 0 where it wants no log-probabilities."""
    wanted = body.get("logprobs")
    if wanted is True:
        return int(body.get("top_logprobs") or 1)
    return int(wanted or 0)


def _rank_options(key: bytes, options: tuple[str, ...]) -> dict[str, float]:
    """Log-probabilities of tokens, likeliest first, each also with a space before it."""
    weights = {option: math.exp(6 * uniform(key + option.encode())) for option in options}
    total = sum(weights.values())
    ranked = {}
    for option, weight in sorted(weights.items(), key=lambda one: -one[1]):
        ranked[option] = math.log(0.8 * weight / total)
        if not option.startswith(" "):
            ranked[" " + option] = math.log(0.15 * weight / total)
    return dict(sorted(ranked.items(), key=lambda one: -one[1]))


def _chat_token(token: str, logprob: float, top: Mapping[str, float]) -> dict[str, Any]:
    shown = [
        {"token": other, "logprob": value, "bytes": list(other.encode())}
        for other, value in top.items()
    ]
    return {
        "token": token,
        "logprob": logprob,
        "bytes": list(token.encode()),
        "top_logprobs": shown,
    }


def _required_tool(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function that must be called: the one named, or the first where any must."""
    choice, tools = body.get("tool_choice"), body.get("tools") or ()
    functions = [tool["function"] for tool in tools]
    if choice == "required":
        return functions[0] if functions else None
    if isinstance(choice, Mapping):
        wanted = choice.get("function", {}).get("name")
        return next((function for function in functions if function["name"] == wanted), None)
    return None


def _wanted_schema(ask: Ask) -> Mapping[str, Any] | None:
    """The schema of the reply: as the endpoint is told it, else as the prompt says it in words."""
    wanted = ask.body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        found: Mapping[str, Any] = wanted.get("json_schema", {}).get("schema", {})
        return found
    return find_schema(ask.prompt)


def read_mode(body: Mapping[str, Any]) -> str:
    """How a request asks for JSON, as `Settings.modes` calls it."""
    if _required_tool(body) is not None:
        return "tool"
    kind = str((body.get("response_format") or {}).get("type"))
    return {"json_schema": "schema", "json_object": "object"}.get(kind, "plain")


def _call_tool(tool: Mapping[str, Any], key: bytes, arguments: str) -> dict[str, Any]:
    function = {"name": tool["name"], "arguments": arguments}
    return {"id": f"call_{key.hex()[:16]}", "type": "function", "function": function}
