"""The thin client: what it sends, what it reads, and what each refusal means."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from aiohttp import web

from nexa_core import (
    CallFailed,
    Charge,
    Failure,
    Message,
    ModelError,
    PreflightError,
    RemoteModel,
    Request,
    Role,
)
from nexa_openai.failures import read_retry_after
from nexa_openai.model import build_model

CHAT = "POST /v1/chat/completions"
KEY = "sk-canary-0123456789"


def reply(**parts: Any) -> dict[str, Any]:
    """A chat reply as OpenAI sends it, with parts of it replaced."""
    message = {"role": "assistant", "content": "It warms."}
    choice = {"index": 0, "message": message | parts.pop("message", {}), "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    return {
        "model": "m-2026",
        "choices": [choice | parts.pop("choice", {})],
        "usage": usage,
    } | parts


@pytest.fixture
async def model_of(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable]:
    """Builds the model of a role at the loopback server, with a key, and closes it."""
    monkeypatch.setenv("CANARY_KEY", KEY)
    built = []

    def make(model: str = "openai/m", **settings: Any) -> Any:
        settings = {"base_url": loopback.url, "api_key_env": "CANARY_KEY"} | settings
        built.append(build_model(Role(model=model, **settings)))
        return built[-1]

    yield make
    for model in built:
        await model.aclose()


def refuse(status: int, body: Any = None, **headers: str) -> Callable[..., Awaitable[Any]]:
    """A handler that answers with a status."""

    async def handler(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        error = {"error": {"message": "no"}} if body is None else body
        return web.json_response(error, status=status, headers=named)

    return handler


async def fail(model: Any, request: Request | None = None) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await model.complete(request or Request("id", "hello"))
    return caught.value


async def test_a_conversation_is_sent_whole(loopback: Any, model_of: Callable) -> None:
    """Turns, tools and tool calls, sampling, stop, seed, schema and the user's own parts go out."""
    loopback.answers[CHAT] = reply()
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = (
        Message("system", "Be brief."),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "7", tool_call_id="c1"),
    )
    schema = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
    asked = Request("id", turns, {"temperature": 0.2}, ("\n\n",), 1 << 52, schema, [{"type": "f"}])
    await model_of(extra_body={"chat_template_kwargs": {"think": False}}).complete(asked)
    assert loopback.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "content": "", "tool_calls": calls},
                {"role": "tool", "content": "7", "tool_call_id": "c1"},
            ],
            "temperature": 0.2,
            "stop": ["\n\n"],
            "seed": 1 << 52,
            "tools": [{"type": "f"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": schema, "strict": True},
            },
            "chat_template_kwargs": {"think": False},
        }
    ]


async def test_a_reply_is_read_whole(loopback: Any, model_of: Callable) -> None:
    """Text, reasoning, tool calls, ending, usage with its parts, the server and what is left."""
    usage = {
        "prompt_tokens": 90,
        "completion_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 30},
        "cost": 0.000125,
    }
    message = {"reasoning_content": "Hm.", "tool_calls": [{"id": "c"}]}
    body = reply(message=message, choice={"finish_reason": "length"}, usage=usage, provider="Deep")
    left = {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1m2.5s"}
    loopback.answers[CHAT] = refuse(200, body, **left)
    done = await model_of().complete(Request("id", "hello"))
    assert (done.text, done.reasoning, done.tool_calls) == ("It warms.", "Hm.", [{"id": "c"}])
    assert done.finish_reason == "length" and done.raw == body
    assert (done.usage.cached_tokens, done.usage.reasoning_tokens) == (64, 30)
    assert done.usage.cost_nano == 125_000 and done.served_by == "Deep/m-2026"
    assert (done.quota.requests_left, done.quota.resets_in) == (7, 62.5)


async def test_completions_are_asked_by_their_own_form(loopback: Any, model_of: Callable) -> None:
    """`api: completions` sends text as it is and reads text."""
    body = {"model": "m", "choices": [{"text": " sky", "finish_reason": "length"}]}
    loopback.answers["POST /v1/completions"] = body
    done = await model_of("vllm/m", api="completions").complete(Request("id", "The", {"top_k": 4}))
    assert done.text == " sky"
    assert loopback.bodies[0] == {"model": "m", "prompt": "The", "top_k": 4, "seed": 0}


async def test_text_ends_before_its_stop(loopback: Any, model_of: Callable) -> None:
    """Also where a server, as `transformers serve`, sends the stop sequence along."""
    loopback.answers[CHAT] = reply(message={"content": "newton.\n\nInput:"})
    done = await model_of().complete(Request("id", "force?", {}, ("\nInput:", "\n\n")))
    assert (done.text, done.raw_text) == ("newton.", "newton.\n\nInput:")


@pytest.mark.parametrize("stated", [{}, {"usage": None}, {"usage": {}}])
async def test_a_reply_without_usage_counts_as_the_most(
    loopback: Any, model_of: Callable, stated: dict[str, Any]
) -> None:
    """Money that a reply does not state is never taken for none."""
    loopback.answers[CHAT] = {"choices": reply()["choices"], **stated}
    usage = (await model_of().complete(Request("id", "hello"))).usage
    assert usage.prompt_tokens >= 5 and usage.completion_tokens >= len("It warms.")
    usage = (await model_of().complete(Request("id", "hello", {"max_tokens": 4}))).usage
    assert usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("status", "failure", "charge"),
    [
        (429, Failure.RATE_LIMIT, Charge.NONE),
        (500, Failure.OVERLOAD, Charge.NONE),
        (502, Failure.OVERLOAD, Charge.UNKNOWN),
        (503, Failure.OVERLOAD, Charge.NONE),
        (504, Failure.OVERLOAD, Charge.UNKNOWN),
        (529, Failure.OVERLOAD, Charge.NONE),
        (413, Failure.LENGTH, Charge.NONE),
        (422, Failure.BAD_REQUEST, Charge.NONE),
    ],
)
async def test_a_refusal_has_its_class(
    loopback: Any, model_of: Callable, status: int, failure: Failure, charge: Charge
) -> None:
    """Every status says what kind of failure it is and what it may have cost; the body is kept."""
    loopback.answers[CHAT] = refuse(status)
    failed = await fail(model_of())
    assert (failed.failure, failed.charge, failed.status) == (failure, charge, status)
    assert failed.raw == '{"error": {"message": "no"}}' and len(loopback.asked) == 1


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": "context_length_exceeded", "message": "8192"}, Failure.LENGTH),
        ({"code": "content_filter", "message": "blocked"}, Failure.REFUSED_CONTENT),
        ("This model's maximum context length is 8192 tokens", Failure.LENGTH),
    ],
)
async def test_a_bad_request_is_told_apart(
    loopback: Any, model_of: Callable, error: Any, failure: Failure
) -> None:
    """A prompt that is too long, or filtered, is no mistake of the request's form."""
    loopback.answers[CHAT] = refuse(400, {"error": error})
    assert (await fail(model_of())).failure == failure


async def test_the_wish_to_wait_is_heard(loopback: Any, model_of: Callable) -> None:
    """Retry-After counts in seconds and as a date, and retry-after-ms in thousandths."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    waits = []
    for headers in ({"Retry_After": "7"}, {"Retry_After": soon}, {"retry_after_ms": "250"}):
        loopback.answers[CHAT] = refuse(429, **headers)
        waits.append((await fail(model_of())).retry_after)
    assert waits[0] == 7 and 25 < waits[1] <= 30 and waits[2] == 0.25


def test_a_date_counts_from_the_servers_clock() -> None:
    """Where this machine's clock is a day off, the wait is what the provider meant."""
    now = time.time() - 86_400
    dates = {"date": formatdate(now, usegmt=True), "retry-after": formatdate(now + 3, usegmt=True)}
    assert read_retry_after(dates) == 3
    assert read_retry_after({"retry-after": dates["retry-after"]}) == 0


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, "bad", r"refuses the key in \$CANARY_KEY"),
        (403, "bad", r"refuses the key in \$CANARY_KEY"),
        (404, "no model", "is not there"),
        (429, {"code": "insufficient_quota", "message": "pay"}, "want of money"),
    ],
)
async def test_what_no_further_try_can_mend_ends_the_run(
    loopback: Any, model_of: Callable, status: int, error: Any, words: str
) -> None:
    """A wrong key, an absent model and an empty account are errors of the run, not of a row."""
    loopback.answers[CHAT] = refuse(status, {"error": error})
    with pytest.raises(ModelError, match=words):
        await model_of().complete(Request("id", "hello"))


async def test_a_redirect_is_not_followed(loopback: Any, model_of: Callable) -> None:
    """The key never goes to where an answer points; the error names that host."""
    loopback.answers[CHAT] = refuse(307, Location="http://127.0.0.2/v1/steal")
    with pytest.raises(ModelError, match=r"sends on to 127\.0\.0\.2"):
        await model_of().complete(Request("id", "hello"))
    assert len(loopback.asked) == 1


async def test_the_key_shows_nowhere(loopback: Any, model_of: Callable) -> None:
    """A server that says the key back finds it struck out of replies, failures and tracebacks."""
    model = model_of()
    loopback.answers[CHAT] = reply(message={"content": f"Your key is {KEY}"})
    done = await model.complete(Request("id", "hello"))
    assert KEY not in str(done) and "[key]" in done.text
    loopback.answers[CHAT] = refuse(500, {"error": f"with {KEY}"})
    shown = "".join(
        traceback.TracebackException.from_exception(await fail(model), capture_locals=True).format()
    )
    assert KEY not in shown and KEY not in repr(model) + repr(vars(model))
    assert loopback.asked[0][2]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("word", ["ollama", "not-needed", "nokeyisneededhere"])
async def test_a_key_that_is_a_word_stays_in_what_a_model_wrote(
    loopback: Any, model_of: Callable, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """Servers that want any key get any word; a row that holds the word is data, and stays whole."""
    monkeypatch.setenv("WORD_API_KEY", word)
    model = model_of(api_key_env="WORD_API_KEY")
    text = f"Install {word} and run {word} serve."
    loopback.answers[CHAT] = reply(message={"content": text})
    assert (await model.complete(Request("id", "hello"))).text == text
    loopback.answers[CHAT] = refuse(500, {"error": f"with {word}"})
    assert word not in str(await fail(model))


async def test_a_broken_connection_shows_no_key(model_of: Callable) -> None:
    """Nor does the traceback of a connection that never was, with every local shown."""
    failed = await fail(model_of(base_url="http://127.0.0.1:9/v1"))
    assert (failed.failure, failed.charge) == (Failure.CONNECTION, Charge.NONE)
    shown = traceback.TracebackException.from_exception(failed, capture_locals=True)
    assert KEY not in "".join(shown.format())


def test_the_usual_key_stays_with_its_host(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that sends `openai` elsewhere gets no key unless it names one."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    own = build_model(Role(model="openai/gpt-4o"))
    foreign = build_model(Role(model="openai/gpt-4o", base_url="https://api.openai.com.evil.io/v1"))
    plain = build_model(Role(model="openai/gpt-4o", base_url="http://api.openai.com/v1"))
    assert own._key.reveal() == KEY and not foreign._key and not plain._key


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1",
        "http://[fe80::1]/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://metadata.google.internal/v1",
        "file:///etc/passwd",
        "http://",
        "http://host:port/v1",
    ],
)
def test_a_forbidden_address_is_refused(url: str) -> None:
    """Metadata services and what is no web address are refused when the model is built."""
    with pytest.raises(PreflightError, match="base_url"):
        build_model(Role(model="openai/m", base_url=url))


async def test_a_name_that_leads_to_metadata_is_refused(
    loopback: Any, model_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name resolves to is looked at before it is asked."""
    monkeypatch.setattr("nexa_openai.addresses.is_forbidden", lambda host: host == "127.0.0.1")
    failed = await fail(model_of(base_url=loopback.url.replace("127.0.0.1", "localhost")))
    assert failed.failure == Failure.CONNECTION and "link-local" in failed.message
    assert not loopback.asked


async def test_a_cut_reply_may_have_cost(loopback: Any, model_of: Callable) -> None:
    """What came of it is kept for the journal."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "500"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        request.transport.close()
        return response

    loopback.answers[CHAT] = cut
    failed = await fail(model_of())
    assert (failed.failure, failed.charge) == (Failure.CONNECTION, Charge.UNKNOWN)
    assert failed.raw == '{"choices": ['


async def test_a_slow_reply_may_have_cost(loopback: Any, model_of: Callable) -> None:
    """The role's timeout ends it, and no second request goes out."""

    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return web.json_response(reply())

    loopback.answers[CHAT] = sleep
    failed = await fail(model_of(timeout=0.05))
    assert (failed.failure, failed.charge) == (Failure.TIMEOUT, Charge.UNKNOWN)
    assert len(loopback.asked) == 1


@pytest.mark.parametrize(
    ("body", "charge"),
    [
        ({"usage": {"prompt_tokens": 5}, "choices": []}, Charge.KNOWN),
        ({"choices": []}, Charge.UNKNOWN),
        ([1], Charge.UNKNOWN),
        ({"error": {"message": "provider gave up", "code": 502}}, Charge.UNKNOWN),
    ],
)
async def test_a_reply_that_is_none_is_a_failure(
    loopback: Any, model_of: Callable, body: Any, charge: Charge
) -> None:
    """What it cost is known where it says so."""
    loopback.answers[CHAT] = refuse(200, body)
    failed = await fail(model_of())
    assert failed.failure.may_pass and failed.charge == charge and failed.raw


async def test_a_web_page_is_no_reply(loopback: Any, model_of: Callable) -> None:
    """A proxy's page with status 200 is kept and told as what it is."""

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    loopback.answers[CHAT] = page
    failed = await fail(model_of())
    assert failed.failure == Failure.BAD_REPLY and failed.raw == "<html>Sign in</html>"


async def test_half_characters_do_not_spoil_a_reply(loopback: Any, model_of: Callable) -> None:
    """A paid reply with a lone surrogate is read all the same."""

    async def half(_: web.Request) -> web.StreamResponse:
        text = '{"choices": [{"message": {"content": "\\ud83d ok"}, "finish_reason": "stop"}]}'
        return web.Response(text=text, content_type="application/json")

    loopback.answers[CHAT] = half
    assert (await model_of().complete(Request("id", "\ud83d"))).text == "\ud83d ok"


async def test_a_reply_has_a_largest_size(
    loopback: Any, model_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body without end does not fill the memory, packed or not."""
    monkeypatch.setattr("nexa_openai.connection.MOST_BYTES", 1000)
    loopback.answers[CHAT] = reply(message={"content": "x" * 2000})
    failed = await fail(model_of())
    assert failed.failure == Failure.BAD_REPLY and "larger than" in failed.message


async def test_another_model_than_wanted_is_a_failure(loopback: Any, model_of: Callable) -> None:
    """`must_be` keeps a silent swap of models out of the data."""
    loopback.answers[CHAT] = reply()
    failed = await fail(model_of(must_be="gpt-4o"))
    assert failed.message == "must_be is 'gpt-4o', and m-2026 answered"
    assert failed.charge == Charge.KNOWN and failed.usage.prompt_tokens == 12
    assert (await model_of(must_be="M-20").complete(Request("id", "hello"))).text


async def test_filtered_answers_are_no_answers(loopback: Any, model_of: Callable) -> None:
    """An answer that was taken away is a refusal of its content, paid as stated."""
    loopback.answers[CHAT] = reply(
        message={"content": None}, choice={"finish_reason": "content_filter"}
    )
    failed = await fail(model_of())
    assert (failed.failure, failed.charge) == (Failure.REFUSED_CONTENT, Charge.KNOWN)


async def test_its_kind_is_a_remote_model(model_of: Callable) -> None:
    """The engine knows it by the protocol; a server of one's own shows load as latency."""
    assert isinstance(model_of(), RemoteModel) and model_of().self_hosted
    assert not build_model(Role(model="openrouter/openai/gpt-4o")).self_hosted


def test_tokens_are_bounded_from_above() -> None:
    """Bytes and the frame of every message bound what may be billed."""
    model = build_model(Role(model="openai/m"))
    request = Request("id", (Message("user", "é" * 100), Message("user", "")), {})
    assert model.bound_tokens(request) >= 200 + 2 * 4
    assert model.bound_tokens(Request("id", "", tools=[{"a": "b" * 99}])) > 99


async def test_openai_itself_gets_its_own_words() -> None:
    """OpenAI's chat takes max_completion_tokens; OpenRouter is asked for the bill."""
    request = Request("id", "hello", {"max_tokens": 5})
    body = build_model(Role(model="openai/gpt-4o"))._writer.build(request)
    assert body["max_completion_tokens"] == 5 and "max_tokens" not in body
    body = build_model(Role(model="openrouter/a/b"))._writer.build(request)
    assert body["usage"] == {"include": True} and body["max_tokens"] == 5
