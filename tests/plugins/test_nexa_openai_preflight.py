"""What is found before anything is paid: the key, the address, the model, the sampling keys."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from nexa_core import Role
from nexa_core.plugins import load_plugins
from nexa_openai.model import build_model

LIST = {"object": "list", "data": [{"id": "llama-3.1-8b"}, {"id": "qwen-3"}]}


def check(loopback: Any, model: str = "vllm/qwen-3", **settings: Any) -> list[str]:
    sampling = settings.pop("sampling", {})
    return build_model(Role(model=model, **{"base_url": loopback.url} | settings)).preflight(
        sampling
    )


def refusing(status: int) -> Any:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no"}, status=status)

    return handler


async def test_a_good_endpoint_has_nothing_against_it(loopback: Any) -> None:
    """Asked from within a running loop, with the key, once for all steps of a role."""
    loopback.answers["GET /v1/models"] = LIST
    model = build_model(Role(model="vllm/qwen-3", base_url=loopback.url))
    assert model.preflight({"top_k": 5}) == [] == model.preflight({})
    assert len(loopback.asked) == 1


def test_a_model_that_is_not_there_names_the_nearest(loopback: Any) -> None:
    """From the endpoint's own list."""
    loopback.answers["GET /v1/models"] = LIST
    (fault,) = check(loopback, "vllm/llama-3-8b")
    assert fault == f"there is no model 'llama-3-8b' at {loopback.url} (nearest: llama-3.1-8b)"


def test_a_refused_key_names_its_variable(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a variable that is not set is found without asking."""
    loopback.answers["GET /v1/models"] = refusing(401)
    monkeypatch.setenv("SOME_KEY", "wrong")
    assert "the key in $SOME_KEY is refused" in check(loopback, api_key_env="SOME_KEY")[0]
    assert check(loopback, api_key_env="ABSENT_KEY") == ["no key: set $ABSENT_KEY"]
    assert "name its variable in api_key_env" in check(loopback)[0]
    assert [headers.get("Authorization") for _, _, headers in loopback.asked] == [
        "Bearer wrong",
        None,
    ]


def test_nobody_there_is_said(loopback: Any) -> None:
    """A refused connection, and a redirect, are no endpoint."""
    assert (
        "does not answer: Connection refused" in check(loopback, base_url="http://127.0.0.1:9")[0]
    )


def test_a_missing_v1_is_found(loopback: Any) -> None:
    """The list that stands one level below tells what to write."""
    loopback.answers["GET /v1/models"] = LIST
    (fault,) = check(loopback, base_url=loopback.url.removesuffix("/v1"))
    assert fault == f"the base_url lacks /v1: write {loopback.url}"


def test_an_endpoint_without_a_list_is_not_suspected(loopback: Any) -> None:
    """Not every server has one."""
    assert check(loopback) == []


@pytest.mark.parametrize(
    ("model", "sampling", "refused"),
    [
        ("openai/gpt-4o", {"temperature": 1, "top_k": 5}, "openai does not take 'top_k'"),
        ("openai/o3-mini", {"temperature": 1}, "reasoning model and does not take 'temperature'"),
        ("ollama/llama3", {"min_p": 0.1}, "ollama does not take 'min_p'"),
        ("transformers/m", {"top_k": 3}, "transformers does not take 'top_k'"),
    ],
)
def test_a_sampling_key_is_never_dropped_in_silence(
    monkeypatch: pytest.MonkeyPatch, model: str, sampling: dict[str, Any], refused: str
) -> None:
    """What the endpoint would refuse or ignore is refused beforehand."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert any(refused in fault for fault in build_model(Role(model=model)).preflight(sampling))


def test_openrouters_list_says_what_a_model_takes(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list is public, so its key is asked about by itself."""
    monkeypatch.setenv("ROUTER_KEY", "good")
    entry = {"id": "a/b", "supported_parameters": ["temperature", "max_tokens"]}
    loopback.answers["GET /v1/models"] = {"data": [entry]}
    loopback.answers["GET /v1/key"] = {"data": {}}
    settings: dict[str, Any] = {"api_key_env": "ROUTER_KEY", "sampling": {"top_k": 1}}
    assert check(loopback, "openrouter/a/b:nitro", **settings) == ["'a/b' does not take 'top_k'"]
    loopback.answers["GET /v1/key"] = refusing(401)
    assert "refused" in check(loopback, "openrouter/a/b", **settings)[0]


def test_what_nexa_sets_is_not_set_by_hand(loopback: Any) -> None:
    """Streams and several choices would break the journal; and batches need an API."""
    loopback.answers["GET /v1/models"] = LIST
    faults = check(loopback, extra_body={"stream": True}, batch=True)
    assert faults == [
        "extra_body must not set 'stream'",
        "vllm has no batch API: remove `batch: true`",
    ]


def test_any_base_url_is_served(loopback: Any) -> None:
    """A provider that nobody knows is part of the model's name where there is a base_url."""
    role = Role(model="meta-llama/Llama-3", base_url=loopback.url)
    model = load_plugins().build_model(role)
    assert model.name == "meta-llama/Llama-3" and model._model == "meta-llama/Llama-3"
    assert load_plugins().build_model(Role(model="vllm/meta-llama/L"))._model == "meta-llama/L"
