"""Adaptive concurrency: grows until it is too much, cuts once for a burst, follows what it learns."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

import pytest

from nexa_core.engine import admission
from nexa_core.engine.admission import CUT, START, Admission
from nexa_core.errors import CallFailed, Failure
from nexa_core.records import Quota

LIMITED = CallFailed(Failure.RATE_LIMIT, "slow down", status=429)


async def fill(gate: Admission) -> list[float]:
    """Take every place there is."""
    return [await gate.enter() for _ in range(int(gate.limit) - gate.under_way)]


async def test_it_doubles_until_the_first_refusal() -> None:
    """A round trip of successes doubles the limit."""
    gate = Admission(1_000)
    for began in await fill(gate):
        gate.leave(began)
        await fill(gate)
    assert gate.limit == 2 * START


async def test_one_burst_is_one_cut() -> None:
    """Twenty refusals of requests that were under way together count once."""
    gate = Admission(1_000)
    for began in await fill(gate):
        gate.leave(began, LIMITED)
    assert gate.limit == pytest.approx(START * CUT)
    assert gate.throttled == START


async def test_after_a_cut_it_grows_by_one_a_round_trip() -> None:
    """Additive increase: as many successes as the limit give one more place."""
    gate = Admission(1_000)
    gate.leave(await gate.enter(), LIMITED)
    before = gate.limit
    for began in await fill(gate):
        gate.leave(began)
        await fill(gate)
    assert gate.limit == pytest.approx(before + 1, abs=0.1)


async def test_failures_of_the_server_only_pause_growth() -> None:
    """A 500 says nothing about how many requests there may be."""
    gate = Admission(1_000)
    gate.leave(await gate.enter(), CallFailed(Failure.OVERLOAD, "busy"))
    assert gate.limit == START


async def test_the_ceiling_holds() -> None:
    """No more are under way than the pipeline allows."""
    gate = Admission(4)
    entered = [asyncio.create_task(gate.enter()) for _ in range(9)]
    await asyncio.sleep(0)
    assert gate.under_way == 4
    for task in entered:
        gate.leave(await task)
    assert gate.under_way == 0


async def test_retry_after_keeps_everybody_waiting() -> None:
    """While the provider asks for a pause nothing goes out."""
    gate = Admission(8)
    gate.leave(await gate.enter(), CallFailed(Failure.RATE_LIMIT, "wait", retry_after=0.05))
    began = asyncio.get_running_loop().time()
    await gate.enter()
    assert asyncio.get_running_loop().time() - began >= 0.045


async def test_one_that_is_told_to_wait_waits_alone() -> None:
    """Where most are answered a Retry-After is about one request, which waits for itself."""
    gate = Admission(64)
    for _ in range(20):
        gate.leave(await gate.enter())
    gate.leave(await gate.enter(), CallFailed(Failure.RATE_LIMIT, "wait", retry_after=30))
    await asyncio.wait_for(gate.enter(), 0.1)


async def test_refusals_at_any_limit_do_not_end_in_one_place() -> None:
    """One in five is refused however few there are: the limit grows, and nobody stands still."""
    gate, chance, served = Admission(256), random.Random(3), deque[float]()
    limited = CallFailed(Failure.RATE_LIMIT, "busy", retry_after=30)
    for _ in range(6_000):
        while gate.under_way < int(gate.limit):
            served.append(await asyncio.wait_for(gate.enter(), 0.1))
        gate.leave(served.popleft(), limited if chance.random() < 0.2 else None)
    assert gate.limit > 2 * START


async def test_from_one_place_it_grows_again() -> None:
    """After many cuts there is one place, and when all is well there are more."""
    gate = Admission(64)
    for _ in range(20):
        gate.leave(await gate.enter(), LIMITED)
    assert int(gate.limit) == 1
    for _ in range(80):
        gate.leave(await gate.enter())
    assert gate.limit >= 2


async def test_headers_may_only_lower_it() -> None:
    """Nothing left means a pause; plenty left means nothing."""
    gate = Admission(8)
    gate.leave(await gate.enter(), quota=Quota(requests_left=5_000))
    assert gate.limit <= 8
    gate.leave(await gate.enter(), quota=Quota(requests_left=0, resets_in=0.05))
    began = asyncio.get_running_loop().time()
    await gate.enter()
    assert asyncio.get_running_loop().time() - began >= 0.045


async def test_requests_a_minute_are_spaced_out() -> None:
    """At 1,200 a minute, ten beyond the first burst take about half a second."""
    gate = Admission(100, rpm=1_200)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(10):
        gate.leave(await gate.enter())
    assert loop.time() - began >= 0.4


async def test_tokens_are_taken_where_a_place_is() -> None:
    """Twenty that wait together do not all pass before the first of them is charged."""
    gate = Admission(100, tpm=6_000)  # a hundred a second
    asking = [asyncio.create_task(gate.enter(tokens=50)) for _ in range(20)]
    await asyncio.sleep(0.06)
    assert gate.under_way <= 2
    gate.withdraw(50)
    gate.give_up(RuntimeError("over"))
    await asyncio.gather(*asking, return_exceptions=True)


async def test_tokens_that_come_back_shorten_the_wait() -> None:
    """A reply that used little of what was expected lets the next go at once."""
    gate = Admission(100, tpm=600)  # ten a second
    began = await gate.enter(tokens=100)
    following = asyncio.create_task(gate.enter(tokens=100))
    await asyncio.sleep(0)
    gate.charge_tokens(-99.5)
    gate.leave(began)
    await asyncio.wait_for(following, 0.5)


async def test_the_breaker_lets_one_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many failures in a row one request at a time asks whether it is over, and then all go."""
    monkeypatch.setattr(admission, "BREAKER_SECONDS", (0.02, 0.04))
    gate = Admission(64)
    down = CallFailed(Failure.CONNECTION, "refused")
    for _ in range(admission.BREAKER_FAILURES):
        gate.leave(await gate.enter(), down)
    assert gate.is_open
    waiting = [asyncio.create_task(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0.03)
    assert gate.under_way == 1
    gate.leave(await waiting[0])
    await asyncio.sleep(0)
    assert gate.under_way == 4
    assert not gate.is_open


async def work(gate: Admission, capacity: int, replies: int) -> None:
    """A server that does `capacity` requests at once, each 5 ms; the rest queue in it."""
    places = asyncio.Semaphore(capacity)

    async def ask() -> None:
        began = await gate.enter()
        async with places:
            await asyncio.sleep(0.005)
        gate.leave(began, tokens=100)

    await asyncio.gather(*(ask() for _ in range(replies)))


async def test_a_self_hosted_server_that_queues_is_asked_less() -> None:
    """No 429 ever comes; the latency says it, and the limit stays near what the server does at once."""
    gate = Admission(400, self_hosted=True)
    await work(gate, 40, 5_000)
    assert 30 <= gate.limit <= 160


async def test_replies_of_unlike_length_are_no_sign_of_a_queue() -> None:
    """Seconds per token differ tenfold from reply to reply, and the limit still grows."""
    gate = Admission(100, self_hosted=True)
    under_way = deque(await fill(gate))
    for n in range(6_000):
        seconds = 0.05 + 0.05 * (n % 2)
        gate.leave(under_way.popleft() - seconds, tokens=30 if n % 3 else 300)
        under_way.extend(await fill(gate))
    assert gate.limit == 100


@pytest.mark.parametrize("capacity", [10, 80])
async def test_it_stays_near_a_capacity_and_seldom_above(capacity: int) -> None:
    """Against a server with so many places nearly all are used, and few requests are refused."""
    gate, served, refused, used = Admission(256), deque[float](), 0, 0
    for number in range(8_000):
        while gate.under_way < int(gate.limit):
            began = await gate.enter()
            if len(served) < capacity:
                served.append(began)
            else:
                gate.leave(began, LIMITED)
                refused += number >= 4_000
        gate.leave(served.popleft())
        used += len(served) * (number >= 4_000)
    assert used > 0.85 * 4_000 * capacity
    assert refused < 0.02 * 4_000


def test_own_lateness_is_no_servers_queue() -> None:
    """A busy client sees long latencies; less at once would not make it faster."""
    gate = Admission(256, self_hosted=True)
    gate.limit = gate.under_way = 200
    for number in range(2000):
        gate.under_way = 201
        late = 0.0 if number < 400 else 0.1
        gate.leave(time.monotonic() - 0.05 - 2 * late, tokens=100, late=late)
    assert gate.limit >= 200
