"""Every fault of the chaos server, as a client meets it, and what the log says of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import fields
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from nexa_core.testing.chaos import ChaosServer, Entry, Faults, Settings
from nexa_core.testing.chaos.faults import BATCH, CONTENT, TRY, FaultDraw


async def meet(fault: str, body: Any = None, **settings: Any) -> tuple[Any, bytes, Entry]:
    """One request to a server where every try has this fault: the reply, its body, its log entry."""
    quick = {"slow_seconds": 0.1, "hang_seconds": 0.1, **settings}
    chosen = Settings(faults=Faults.only(fault), **quick)
    body = body or {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    async with ChaosServer(chosen) as server, aiohttp.ClientSession() as client:
        url = f"{server.url}/chat/completions"
        async with client.post(url, json=body, allow_redirects=False) as reply:
            content = await reply.read()
        return reply, content, next(iter(server.log))


async def test_rate_limits_say_when_to_come_again() -> None:
    """429 with seconds, with a date in the future, and with neither; none is billed."""
    reply, _, entry = await meet("rate_limit", retry_after=3)
    assert (reply.status, reply.headers["Retry-After"], entry.bill) == (429, "3", 0)
    reply, _, _ = await meet("rate_limit_date", retry_after=5)
    dates = [parsedate_to_datetime(reply.headers[name]) for name in ("Date", "Retry-After")]
    assert 4 <= (dates[1] - dates[0]).total_seconds() <= 6
    reply, _, _ = await meet("rate_limit_bare")
    assert reply.status == 429 and "Retry-After" not in reply.headers


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_errors_of_the_server(status: int) -> None:
    """Each status with an error object; only the gateway's, whose work was done, is billed."""
    reply, body, entry = await meet(f"error_{status}")
    assert reply.status == entry.status == status and "error" in json.loads(body)
    assert (entry.bill > 0) == (status == 502)


@pytest.mark.parametrize("fault", ["slow_first_byte", "slow_drip"])
async def test_slow_replies_are_whole(fault: str) -> None:
    """They take their time, and nothing of them is missing."""
    started = time.monotonic()
    _, body, entry = await meet(fault)
    assert time.monotonic() - started > 0.08
    assert json.loads(body)["choices"] and entry.flushed


@pytest.mark.parametrize("fault", ["cut", "reset", "hung"])
async def test_broken_replies_are_billed_and_logged(fault: str) -> None:
    """The connection ends before the body does; the log says it was not all sent, and bills it."""
    chosen = Settings(faults=Faults.only(fault), hang_seconds=0.1)
    body = {"model": "m", "prompt": "Hello"}
    async with ChaosServer(chosen) as server, aiohttp.ClientSession() as client:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError)):
            async with client.post(f"{server.url}/completions", json=body) as reply:
                await reply.read()
        await asyncio.sleep(0.01)
        entry = next(iter(server.log))
    assert not entry.flushed and entry.bill > 0 and entry.fault == fault and not entry.answered


async def test_bodies_that_are_no_completion() -> None:
    """Status 200 with broken JSON, another shape, a page, or an error object."""
    _, body, entry = await meet("invalid_json")
    with pytest.raises(ValueError):
        json.loads(body)
    assert entry.bill > 0 and entry.flushed and not entry.answered
    assert "choices" not in json.loads((await meet("wrong_shape"))[1])
    reply, body, _ = await meet("html")
    assert reply.content_type == "text/html" and b"<html>" in body
    reply, body, _ = await meet("error_200")
    assert reply.status == 200 and "error" in json.loads(body)


async def test_answers_that_are_of_no_use() -> None:
    """Empty, cut short, refused, filtered, without usage, and of another schema."""
    choices = {
        fault: json.loads((await meet(fault))[1])
        for fault in ("empty", "length", "refusal", "content_filter", "no_usage", "wrong_schema")
    }
    message = {name: one["choices"][0]["message"] for name, one in choices.items()}
    assert message["empty"]["content"] == ""
    assert choices["length"]["choices"][0]["finish_reason"] == "length"
    assert message["refusal"]["refusal"]
    assert choices["content_filter"]["choices"][0]["finish_reason"] == "content_filter"
    assert "usage" not in choices["no_usage"]
    assert json.loads(message["wrong_schema"]["content"]) == {"unexpected": True}


async def test_json_text_may_be_broken() -> None:
    """Where JSON was asked for, half of it comes, in a reply that is whole."""
    wanted = {"model": "m", "response_format": {"type": "json_object"}}
    body = {**wanted, "messages": [{"role": "user", "content": "Hello"}]}
    text = json.loads((await meet("broken_json", body))[1])["choices"][0]["message"]["content"]
    with pytest.raises(ValueError):
        json.loads(text)


async def test_a_redirect_leads_to_another_host() -> None:
    """By default the same port under another name, else where it is told to."""
    reply, _, _ = await meet("redirect")
    assert reply.status == 307 and reply.headers["Location"].startswith("http://localhost:")
    reply, _, _ = await meet("redirect", redirect_to="http://127.0.0.1:9")
    assert reply.headers["Location"] == "http://127.0.0.1:9/v1/chat/completions"


async def test_gzip_is_read_by_any_client() -> None:
    """A compressed reply is an answer like another."""
    reply, body, entry = await meet("gzip")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert json.loads(body)["choices"] and entry.answered


def test_faults_follow_from_seed_request_and_try() -> None:
    """Two draws agree whatever the order of requests; another seed gives others, at the same rates."""
    keys = [b"%d" % number for number in range(2000)]

    def faults(seed: int, order: list[bytes]) -> dict[bytes, list[str | None]]:
        draw = FaultDraw(Faults.storm(), seed)
        first = {key: draw.draw_try(key) for key in order}
        return {key: [first[key], draw.draw_try(key)] for key in sorted(order)}

    one = faults(1, keys)
    assert one == faults(1, keys[::-1]) != faults(2, keys)
    tries = Counter(fault for drawn in one.values() for fault in drawn)
    assert 320 < tries["rate_limit"] < 480 and 120 < tries["gzip"] < 280
    assert any(first != second for first, second in one.values())


def test_an_answers_fault_stays_and_tries_come_to_an_end() -> None:
    """What is wrong with an answer is so at every try; `most` tries go wrong, no more."""
    draw = FaultDraw(Faults(length=0.5, reset=1.0), seed=0, most=3)
    assert len({draw.draw_content(b"key") for _ in range(9)}) == 1
    assert [draw.draw_try(b"key") for _ in range(5)] == ["reset"] * 3 + [None] * 2


def test_rates_are_checked_and_groups_are_whole() -> None:
    """Rates that no draw can honour are refused; every field of Faults belongs to one group."""
    with pytest.raises(ValueError):
        Faults(cut=0.7, reset=0.7)
    with pytest.raises(ValueError):
        Faults(line_error=1.5)
    assert [entry.name for entry in fields(Faults)] == [*TRY, *CONTENT, *BATCH]
