"""What the chaos server takes at once, and what it does with the rest."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiohttp

from nexa_core.testing.chaos import Capacity, ChaosServer, Settings


async def flood(server: ChaosServer, count: int) -> Counter[int]:
    """Statuses of that many different requests at once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def ask(number: int) -> int:
            body = {"model": "m", "prompt": "x", "seed": number, "max_tokens": 10}
            async with client.post(f"{server.url}/completions", json=body) as reply:
                await reply.read()
                return reply.status

        return Counter(await asyncio.gather(*map(ask, range(count))))


async def test_more_than_fit_are_refused_and_capacity_changes() -> None:
    """Above the limit comes 429 with Retry-After; a limit set while it runs holds at once."""
    async with ChaosServer(Settings(latency=0.1, capacity=Capacity(5))) as server:
        assert await flood(server, 12) == {200: 5, 429: 7}
        server.capacity = 9
        await asyncio.sleep(0)
        assert await flood(server, 12) == {200: 9, 429: 3}
        assert server.stats.faults == {"capacity": 10}


async def test_a_queue_makes_them_wait_instead() -> None:
    """A self-hosted server answers all, five at a time, and takes three rounds for it."""
    settings = Settings(latency=0.05, capacity=Capacity(5, queues=True))
    async with ChaosServer(settings) as server:
        started = time.monotonic()
        assert await flood(server, 15) == {200: 15}
        assert time.monotonic() - started > 0.14


async def test_rates_per_second_are_kept() -> None:
    """Requests and tokens above a second's worth are refused until they are there again."""
    async with ChaosServer(Settings(capacity=Capacity(requests_per_second=20))) as server:
        assert (await flood(server, 30))[429] >= 8
        await asyncio.sleep(0.15)
        assert 2 <= (await flood(server, 10))[200] <= 6
    async with ChaosServer(Settings(capacity=Capacity(tokens_per_second=50))) as server:
        assert (await flood(server, 10))[200] in (4, 5)  # eleven tokens each


async def test_headers_say_what_is_left() -> None:
    """`x-ratelimit-*` where it is wanted."""
    settings = Settings(rate_headers=True, capacity=Capacity(requests_per_second=100))
    async with ChaosServer(settings) as server, aiohttp.ClientSession() as client:
        url = f"{server.url}/completions"
        replies = [await client.post(url, json={"prompt": "x"}) for _ in range(2)]
    headers = [reply.headers for reply in replies]
    assert [one["x-ratelimit-limit-requests"] for one in headers] == ["100", "100"]
    assert int(headers[1]["x-ratelimit-remaining-requests"]) in (98, 99)
    assert headers[0]["x-ratelimit-reset-requests"].endswith("s")


async def test_the_log_counts_what_is_under_way() -> None:
    """Each entry says how many were there as it arrived; the sums know the most."""
    async with ChaosServer(Settings(latency=0.05)) as server:
        await flood(server, 8)
        assert sorted(entry.in_flight for entry in server.log) == list(range(1, 9))
        assert server.stats.most_in_flight == 8 and server.stats.in_flight == 0
