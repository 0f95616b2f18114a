"""LiteLLM as a provider: one try, its failures typed, its keys at home, its noise off."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from nexa_core import CallFailed, Charge, Failure, Message, ModelError, RemoteModel, Request, Role
from nexa_core.testing.chaos import Settings, serve_in_thread
from nexa_litellm.loading import load_litellm
from nexa_litellm.model import build_model
from nexa_litellm.names import NAMES

# LiteLLM keeps its clients beyond the loop of a test.
pytestmark = [
    pytest.mark.slow,  # importing litellm takes longer than its tests
    pytest.mark.filterwarnings("ignore:::(litellm|httpx|pydantic|openai|aiohttp)"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEY = "sk-ant-canary-0123"
CHAT = "POST /v1/chat/completions"
CLAUDE = "POST /v1/messages"
ANSWER = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-2026",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "It warms."},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 5},
}


def vllm(loopback: Any, **settings: Any) -> Any:
    return build_model(Role(model="litellm/hosted_vllm/m", base_url=loopback.url, **settings))


def claude(loopback: Any, **settings: Any) -> Any:
    url = loopback.url.removesuffix("/v1")
    return build_model(Role(model="anthropic/claude-sonnet-4-5", base_url=url, **settings))


def refuse(status: int, **headers: str) -> Any:
    async def handler(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": f"no {KEY}"}}, status=status, headers=named)

    return handler


async def fail(model: Any) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await model.complete(Request("id", "hello"))
    return caught.value


async def test_claude_is_asked_in_its_own_words(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """System text, turns, stop and sampling go out in Anthropic's form; the reply is read back."""
    monkeypatch.setenv("CLAUDE_KEY", KEY)
    loopback.answers[CLAUDE] = ANSWER
    turns = (Message("system", "Be brief."), Message("user", "Copper?"))
    asked = Request("id", turns, {"temperature": 0.5, "max_tokens": 64}, ("\n\nHuman:",), 7)
    model = claude(loopback, api_key_env="CLAUDE_KEY")
    done = await model.complete(asked)
    assert (done.text, done.reasoning, done.finish_reason) == ("It warms.", "Hm.", "stop")
    assert (done.usage.prompt_tokens, done.usage.cached_tokens) == (14, 5)
    assert done.usage.completion_tokens == 4 and isinstance(model, RemoteModel)
    (_, sent, headers), *more = loopback.asked
    assert sent["system"][0]["text"] == "Be brief." and sent["stop_sequences"] == ["\n\nHuman:"]
    assert sent["max_tokens"] == 64 and "seed" not in sent and headers["x-api-key"] == KEY
    assert not more


async def test_a_server_behind_litellm_gets_the_seed(loopback: Any) -> None:
    """Where a provider takes one, the seed makes replies repeatable."""
    loopback.answers[CHAT] = {
        "model": "m",
        "choices": [
            {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "length"}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    done = await vllm(loopback).complete(Request("id", "hello", {"top_k": 5}, (), 11))
    assert (done.text, done.finish_reason) == ("yes", "length")
    assert loopback.bodies[0]["seed"] == 11 and loopback.bodies[0]["top_k"] == 5


@pytest.mark.parametrize(
    ("status", "failure", "charge"),
    [
        (429, Failure.RATE_LIMIT, Charge.NONE),
        (500, Failure.OVERLOAD, Charge.UNKNOWN),
        (503, Failure.OVERLOAD, Charge.NONE),
        (400, Failure.BAD_REQUEST, Charge.NONE),
    ],
)
async def test_a_refusal_is_one_typed_try(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, status: int, failure: Failure, charge: Charge
) -> None:
    """LiteLLM's own retries are off, for its two kinds of clients; no key is in the message."""
    monkeypatch.setenv("CLAUDE_KEY", KEY)
    loopback.answers[CHAT] = loopback.answers[CLAUDE] = refuse(status, retry_after="7")
    for model in (vllm(loopback), claude(loopback, api_key_env="CLAUDE_KEY")):
        loopback.asked.clear()
        failed = await fail(model)
        assert (failed.failure, failed.charge) == (failure, charge)
        assert KEY not in str(failed) + str(failed.raw) and len(loopback.asked) == 1
        assert failed.retry_after == 7 or status != 429


async def test_a_wrong_key_ends_the_run(loopback: Any) -> None:
    """As no further try can mend it."""
    loopback.answers[CHAT] = refuse(401)
    with pytest.raises(ModelError, match="refuses the key"):
        await vllm(loopback).complete(Request("id", "hello"))


@pytest.mark.parametrize("model", ["anthropic/claude-x", "gemini/g", "openai/m", "groq/m"])
async def test_a_redirect_is_not_followed(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """LiteLLM by itself follows it, with the key in `x-api-key`."""
    monkeypatch.setenv("SOME_KEY", KEY)

    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(loopback.url.replace("127.0.0.1", "localhost") + "/steal")

    loopback.anything = redirect
    role = Role(model=f"litellm/{model}", base_url=loopback.url, api_key_env="SOME_KEY")
    with pytest.raises(ModelError, match="sends on"):
        await build_model(role).complete(Request("id", "hello"))
    assert len(loopback.asked) == 1


async def test_nobody_there_costs_nothing() -> None:
    """A refused connection is none; a slow reply may have cost."""
    role = Role(model="litellm/hosted_vllm/m", base_url="http://127.0.0.1:9/v1")
    failed = await fail(build_model(role))
    assert (failed.failure, failed.charge) == (Failure.CONNECTION, Charge.NONE)


async def test_a_slow_reply_may_have_cost(loopback: Any) -> None:
    """The role's timeout ends it."""

    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.4)
        return web.json_response({})

    loopback.answers[CHAT] = sleep
    failed = await fail(vllm(loopback, timeout=0.1))
    assert (failed.failure, failed.charge) == (Failure.TIMEOUT, Charge.UNKNOWN)


async def test_the_usual_key_stays_at_home(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign base_url gets no key that the pipeline does not name."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    loopback.answers[CLAUDE] = ANSWER
    await claude(loopback).complete(Request("id", "hello", {"max_tokens": 5}))
    assert KEY not in str(loopback.asked)


def test_preflight_names_what_is_wrong(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is not set, a sampling key that is not taken, a provider nobody knows."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    model = build_model(Role(model="anthropic/claude-sonnet-4-5", batch=True))
    faults = model.preflight({"temperature": 1, "top_k": 4, "min_p": 0.1})
    assert faults[0] == "anthropic does not take 'min_p' for 'claude-sonnet-4-5'"
    assert "no batches" in faults[1] and faults[2] == "no key: set $ANTHROPIC_API_KEY"
    (fault,) = build_model(Role(model="litellm/anthropc/m")).preflight({})
    assert "knows no provider" in fault and "anthropic" in fault
    assert vllm(loopback).preflight({"min_p": 0.1, "repetition_penalty": 1.1}) == []


async def test_log_probabilities_are_not_offered(loopback: Any) -> None:
    """A critic says so at once."""
    with pytest.raises(ModelError, match="openai-compatible"):
        await vllm(loopback).choose(Request("id", ""), ("A",))


def test_every_name_is_one_of_litellms() -> None:
    """The list in the plugin, which is read without importing LiteLLM, is no invention."""
    known = [getattr(one, "value", one) for one in load_litellm().provider_list]
    assert set(NAMES) <= set(known)


@pytest.mark.parametrize("mode", ["schema", "tool", "object", "plain"])
async def test_json_of_a_form_in_every_mode(mode: str) -> None:
    """Whatever the endpoint takes, the text is an object of the schema that was asked."""
    schema = {
        "type": "object",
        "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["score"],
        "additionalProperties": False,
    }
    with serve_in_thread(Settings(modes=(mode,))) as server:
        model = build_model(
            Role(model="litellm/hosted_vllm/m", base_url=server.url, structured=mode)
        )
        reply = await model.complete(Request("id", (Message("user", "Judge."),), schema=schema))
    text = reply.text.removeprefix("```json\n").removesuffix("\n```")
    assert 0 <= json.loads(text)["score"] <= 1 and reply.tool_calls is None
