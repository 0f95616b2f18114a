"""The chaos server answers like a provider: texts, JSON, tools, log-probabilities, usage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from nexa_core.testing.chaos import Answer, Capacity, ChaosServer, Faults, Settings, hash_prompt
from nexa_core.testing.chaos.replies import Writer, read_ask


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that asks without a key."""
    async with aiohttp.ClientSession() as session:
        yield session


def chat(content: str = "What is steel?", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


async def ask(client: aiohttp.ClientSession, server: ChaosServer, body: Any, path: str = "") -> Any:
    url = f"{server.url}/{path or 'chat/completions'}"
    async with client.post(url, json=body) as reply:
        return await reply.json()


async def test_the_same_request_has_the_same_answer(client: aiohttp.ClientSession) -> None:
    """A body answers alike in every server, and another seed in it answers otherwise."""
    replies = []
    for seed in (1, 1, 2):
        async with ChaosServer() as server:
            replies.append(await ask(client, server, chat(seed=seed)))
    assert replies[0] == replies[1] != replies[2]
    assert replies[0]["choices"][0]["message"]["content"].endswith(".")


def test_the_short_cut_gives_the_same_body() -> None:
    """A plain reply that is put together equals the one that is encoded, for both endpoints."""
    writer = Writer(Settings())
    for body, is_chat in ((chat(stop=["is "]), True), ({"model": 'a"b', "prompt": "x"}, False)):
        one = read_ask(json.dumps(body).encode(), is_chat)
        assert writer.write(one).data == writer.write_fully(one).data


async def test_max_tokens_and_stop_end_an_answer(client: aiohttp.ClientSession) -> None:
    """Four characters are a token; what ends first says how it ended."""
    async with ChaosServer() as server:
        whole = await ask(
            client, server, {"model": "m", "prompt": "x", "max_tokens": 3}, "completions"
        )
        text = whole["choices"][0]["text"]
        assert len(text) == 12 and whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 3
        cut = await ask(client, server, chat(stop=[" "]))
        assert " " not in cut["choices"][0]["message"]["content"]
        assert cut["choices"][0]["finish_reason"] == "stop"


async def test_given_answers_come_by_hash_then_by_match(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A file of answers decides what it matches, and prose the rest."""
    lines = [
        {"match": "steel", "text": "An alloy."},
        {"prompt_hash": hash_prompt("Is steel hard?"), "text": "Yes."},
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    async with ChaosServer(Settings(answers=path)) as server:
        texts = [
            (await ask(client, server, chat(prompt)))["choices"][0]["message"]["content"]
            for prompt in ("What is steel?", "Is steel hard?", "What is wood?")
        ]
    assert texts[:2] == ["An alloy.", "Yes."] and len(texts[2]) > 100


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 8},
        "kind": {"enum": ["a", "b"]},
        "score": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 1},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "integer", "multipleOf": 5}]},
    },
    "required": ["name", "kind", "score", "parts"],
    "additionalProperties": False,
    "$defs": {"part": {"type": "object", "properties": {"n": {"type": "integer", "maximum": -3}}}},
}


async def test_a_schema_is_answered_with_an_instance(client: aiohttp.ClientSession) -> None:
    """Thirty answers, all valid and not all the same."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    seen = set()
    async with ChaosServer() as server:
        for seed in range(30):
            reply = await ask(client, server, chat(seed=seed, response_format=wanted))
            text = reply["choices"][0]["message"]["content"]
            jsonschema.validate(json.loads(text), SCHEMA)
            seen.add(text)
    assert len(seen) > 20


async def test_a_required_tool_is_called(client: aiohttp.ClientSession) -> None:
    """The named function is called with arguments that its schema takes; 'auto' is answered in words."""
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    named = {"type": "function", "function": {"name": "look"}}
    async with ChaosServer() as server:
        for choice in ("required", named):
            reply = await ask(client, server, chat(tools=[tool], tool_choice=choice))
            call = reply["choices"][0]["message"]["tool_calls"][0]["function"]
            assert call["name"] == "look"
            jsonschema.validate(json.loads(call["arguments"]), SCHEMA)
        free = await ask(client, server, chat(tools=[tool]))
        assert free["choices"][0]["message"]["content"]


async def test_logprobs_are_plausible(client: aiohttp.ClientSession) -> None:
    """The first token is the likeliest option, alternatives come likeliest first, and sum below 1."""
    async with ChaosServer(Settings(options=("A", "B"))) as server:
        reply = await ask(client, server, chat(max_tokens=1, logprobs=True, top_logprobs=4))
        first = reply["choices"][0]["logprobs"]["content"][0]
        tops = [top["logprob"] for top in first["top_logprobs"]]
        assert {top["token"].strip() for top in first["top_logprobs"]} == {"A", "B"}
        assert tops == sorted(tops, reverse=True) and first["logprob"] == tops[0]
        plain = {"model": "m", "prompt": "A or B?", "max_tokens": 1, "logprobs": 2}
        choice = (await ask(client, server, plain, "completions"))["choices"][0]
        assert choice["text"] in choice["logprobs"]["top_logprobs"][0]
        assert len(choice["logprobs"]["top_logprobs"][0]) == 2


async def test_usage_tells_all_a_bill_needs(client: aiohttp.ClientSession) -> None:
    """Cached and reasoning tokens, the cost in dollars and the provider, as the log has them."""
    settings = Settings(
        cached_share=0.5, reasoning_tokens=7, states_cost=True, providers=("one", "two")
    )
    async with ChaosServer(settings) as server:
        reply = await ask(client, server, chat("word " * 40))
        usage, entry = reply["usage"], next(iter(server.log))
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] // 2
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 7}
    assert round(usage["cost"] * 1e9) == entry.bill > 0
    assert reply["provider"] in ("one", "two") and reply["system_fingerprint"]
    assert reply["choices"][0]["message"]["reasoning_content"]


async def test_a_server_may_bill_the_maximum(client: aiohttp.ClientSession) -> None:
    """Usage and bill are for max_tokens, however short the answer is."""
    async with ChaosServer(Settings(bills_maximum=True)) as server:
        reply = await ask(client, server, chat(max_tokens=5000))
        assert reply["usage"]["completion_tokens"] == 5000
        assert server.stats.bill_nano == server.settings.prices.cost(
            reply["usage"]["prompt_tokens"], 5000
        )


async def test_a_wrong_key_and_an_unknown_model_are_refused(client: aiohttp.ClientSession) -> None:
    """401 and 404 in OpenAI's words; the log says whether a key came."""
    async with ChaosServer(Settings(key="right", models=("known",))) as server:
        url, wrong = f"{server.url}/chat/completions", {"Authorization": "Bearer wrong"}
        async with client.post(url, json=chat(), headers=wrong) as reply:
            assert reply.status == 401
            assert (await reply.json())["error"]["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer right"}
        async with client.post(url, json=chat(), headers=right) as reply:
            assert reply.status == 404
        async with client.get(f"{server.url}/models", headers=right) as reply:
            assert [one["id"] for one in (await reply.json())["data"]] == ["known"]
        async with client.get(f"{server.url}/models") as reply:
            assert reply.status == 401
        assert [entry.keyed for entry in server.log] == [True, True, True, False]


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b"{}", b'{"messages": []}', b'{"messages": [1]}']
)
async def test_a_bad_request_is_told_so(client: aiohttp.ClientSession, body: bytes) -> None:
    """What cannot be understood is a 400, and the server goes on."""
    async with ChaosServer() as server:
        async with client.post(f"{server.url}/chat/completions", data=body) as reply:
            assert reply.status == 400
        assert (await ask(client, server, chat()))["choices"]


async def test_the_log_is_a_file_where_wanted(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """One line per request, read back as it was; the sums agree with it."""
    path = tmp_path / "server.jsonl"
    async with ChaosServer(Settings(log_path=path, faults=Faults.only("error_500", 0.5))) as server:
        for seed in range(40):
            await ask(client, server, chat(seed=seed))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(entries) == server.stats.requests == 40
    assert sum(entry["bill"] for entry in entries) == server.stats.bill_nano
    assert {entry["status"] for entry in entries} == {200, 500}
    assert len({entry["hash"] for entry in entries}) == 40


def test_settings_survive_json() -> None:
    """What another process is told is what was said."""
    settings = Settings(
        seed=3,
        answers=(Answer("x", match="y"),),
        capacity=Capacity(7, queues=True),
        faults=Faults.storm(),
        log_path=Path("log"),
    )
    assert Settings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
