"""How many requests one endpoint and model may have under way: found by asking, kept by listening.

The limit doubles each round trip until the first sign of too much, then grows by about one a round
trip and is cut on a 429 (additive increase, multiplicative decrease; Chiu and Jain 1989). One burst
of refusals is one cut. A 429 that says when to come again stops everybody where most are refused, and
elsewhere only who was. Failures of the server pause growth, and many in a row open a circuit breaker.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from dataclasses import dataclass, field

from nexa_core.engine.refusals import Refusals
from nexa_core.errors import CallFailed, Failure
from nexa_core.records import Quota

START = 20
CUT = 0.75
COOLDOWN_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
LATE_SECONDS = 0.05
"""From here on more requests under way would only wait in this process."""
BREAKER_FAILURES = 12
BREAKER_SECONDS = (1.0, 30.0)
QUICKER_AFTER_ROUNDS = 8
EDGE_STEP = 1 / 8
"""Requests a round trip by which a limit grows near the one at which the last refusal came."""
BLIND = 0.2
"""The share of a reply's time that may be this process's own, for the rest to be worth judging."""
QUEUEING = 2.0
"""A self-hosted server whose seconds per token are this many times its best is queueing,"""
WORTHWHILE = 1.05
"""unless its tokens a second grow by this factor over the most so far."""
FEWEST_WHILE_QUEUEING = 8

_DOWN = frozenset({Failure.OVERLOAD, Failure.TIMEOUT, Failure.CONNECTION})


@dataclass(slots=True)
class Bucket:
    """A token bucket that may go into debt: so much a minute, evenly."""

    per_minute: float
    level: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def wait_seconds(self, now: float) -> float:
        """Seconds until something may be taken again."""
        earned = (now - self.at) * self.per_minute / 60
        # A second's worth may be saved up, so that slow timers do not lower the rate.
        self.level = min(self.level + earned, self.per_minute / 60)
        self.at = now
        return 0.0 if self.level >= 0 else -self.level * 60 / self.per_minute

    def take(self, amount: float) -> None:
        """Take, or with a negative amount give back."""
        self.level -= amount


class DivertedError(Exception):
    """The endpoint fails and another may serve: whoever waited here chooses again."""


class Admission:
    """The gate before one endpoint and model.

    `limit` is the number of requests that may be under way. `ceiling` is the user's `concurrency`.
    `self_hosted` servers show overload as latency, so there that is watched too.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        self_hosted: bool = False,
        rpm: float | None = None,
        tpm: float | None = None,
    ) -> None:
        self.ceiling, self.limit = ceiling, float(min(START, ceiling))
        self.under_way = 0
        self.throttled = 0
        """Requests refused with 429 so far."""
        self._slow_start = True
        self._rounds = self._edge = 0.0
        self._cut_at = self._paused_until = -math.inf
        self._buckets = {"requests": Bucket(rpm)} if rpm else {}
        if tpm:
            self._buckets["tokens"] = Bucket(tpm)
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        """Who waits, and for how many tokens."""
        self._divertible: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = time.monotonic()
        self._breaker = Breaker()
        self._latency = Latency() if self_hosted else None
        self._refusals = Refusals()

    @property
    def is_open(self) -> bool:
        """The circuit breaker is open: nothing is answered, and who may ask about it does so."""
        is_asking = self._breaker.is_probing and self.under_way > 0
        return is_asking or self._breaker.is_open(time.monotonic())

    @property
    def down_seconds(self) -> float:
        """For how long nothing but failures has come back; 0 while something is answered."""
        return self._breaker.down_seconds(time.monotonic())

    @property
    def silent_seconds(self) -> float:
        """For how long nothing has been answered, whatever came instead: refusals for a rate too."""
        return time.monotonic() - self._answered_at

    async def enter(self, has_others: bool = False, tokens: float = 0) -> float:
        """Wait for a place; returns when the request began, for `leave`.

        `tokens` count against the cap per minute from the admission on: who comes next waits for them.

        Raises:
            DivertedError: The breaker opened meanwhile, for a caller that has other endpoints.
        """
        if self._waiting or self._blocked_seconds() > 0 or self.under_way >= self._places():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((future, tokens))
            if has_others:
                self._divertible.add(future)
                future.add_done_callback(self._divertible.discard)
            self._wake()
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled() and future.exception() is None:
                    self.withdraw(tokens)
                raise
        else:
            self._admit(tokens)
        return time.monotonic()

    def charge_tokens(self, tokens: float) -> None:
        """Count tokens against the cap per minute; negative gives back what was not used."""
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(tokens)

    def leave(
        self,
        began: float,
        failure: CallFailed | None = None,
        tokens: int = 0,
        quota: Quota | None = None,
        late: float = 0.0,
    ) -> None:
        """A request is over: free its place and learn from how it went.

        `late` is by how many seconds this process itself is behind, on the way out and again on the
        way in; where that is much of the time, the time says nothing of the server. One that is
        far behind gets no more to do.
        """
        now = time.monotonic()
        if failure is None:
            self._answered_at = now
            self._breaker.close()
            self._refusals.add(False)
            if late < LATE_SECONDS:
                self._grow(now - began, tokens, blind=2 * late > BLIND * (now - began))
        else:
            self._learn(failure, began, now)
        if quota is not None and quota.requests_left is not None and quota.requests_left < 1:
            self._pause(now + min(quota.resets_in or 1.0, LONGEST_PAUSE_SECONDS))
        self._release()

    def withdraw(self, tokens: float = 0) -> None:
        """A place was taken, and nothing came of it that says anything about the endpoint.

        `tokens` are given back: where no request went out, all that were taken.
        """
        self.charge_tokens(-tokens)
        self._release()

    def give_up(self, error: BaseException) -> None:
        """End every wait with this error."""
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _learn(self, failure: CallFailed, began: float, now: float) -> None:
        if failure.failure is Failure.RATE_LIMIT:
            self.throttled += 1
            self._slow_start = False
            self._refusals.add(True)
            # Requests that began before the last cut belong to the same burst.
            if began > self._cut_at and self._refusals.are_new:
                self._edge = self.limit
                self._cut(now)
            asked = failure.retry_after
            if asked is not None and self._refusals.are_most:
                self._pause(now + min(asked, LONGEST_PAUSE_SECONDS) * (1 + random.random() / 10))
        elif failure.failure in _DOWN:
            self._slow_start = False
            self._rounds = 0.0
            self._breaker.count(now)
            if self._breaker.is_open(now):
                self._divert()

    def _divert(self) -> None:
        for future in list(self._divertible):
            if not future.done():
                future.set_exception(DivertedError())
        self._waiting = deque(each for each in self._waiting if not each[0].done())

    def _cut(self, now: float, factor: float = CUT) -> None:
        self.limit = max(1.0, self.limit * factor)
        self._cut_at, self._rounds = now, 0.0

    def _grow(self, seconds: float, tokens: int, blind: bool = False) -> None:
        if self._latency is not None and not blind:
            self._latency.add(seconds, tokens)
            if self._latency.end_round(self.limit) and self._latency.is_queueing:
                self._slow_start = False
                least = min(FEWEST_WHILE_QUEUEING, self.limit)
                self.limit = max(least, self.limit * self._latency.reduction)
            if self._latency.is_queueing:
                return
        if self.under_way < int(self.limit) * 0.8:
            return  # the limit does not bind, so nothing was learned about it
        if self._slow_start:
            self.limit = min(self.ceiling, self.limit + 1)
            return
        # Where the last refusal came the next one is near: little by little, else many are refused.
        if self._edge - max(1.0, self._edge / 32) <= self.limit < self._edge + 1:
            self._rounds = 0.0
            self.limit = min(self.ceiling, self.limit + EDGE_STEP / self.limit)
            return
        self._rounds += 1 / self.limit
        step = 1 + max(0.0, self._rounds - QUICKER_AFTER_ROUNDS) / 2
        self.limit = min(self.ceiling, self.limit + step / self.limit)

    def _places(self) -> float:
        return 1 if self._breaker.is_probing else int(self.limit)

    def _admit(self, tokens: float) -> None:
        self.under_way += 1
        if "requests" in self._buckets:
            self._buckets["requests"].take(1)
        self.charge_tokens(tokens)

    def _release(self) -> None:
        self.under_way -= 1
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self.under_way < self._places():
            blocked = self._blocked_seconds()
            if blocked > 0:
                self._wake_later(blocked)
                return
            future, tokens = self._waiting.popleft()
            if not future.done():
                self._admit(tokens)
                future.set_result(None)

    def _blocked_seconds(self) -> float:
        if not self._buckets and self._paused_until < 0 and not self._breaker.is_probing:
            return 0.0
        now = time.monotonic()
        until = max(self._paused_until, self._breaker.opens_at)
        return max(until - now, *(b.wait_seconds(now) for b in self._buckets.values()), 0.0)

    def _pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def _wake_later(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()  # tokens came back: the wait is shorter than it was
        self._timer = loop.call_later(seconds, self._rouse)

    def _rouse(self) -> None:
        self._timer = None
        self._wake()


@dataclass(slots=True)
class Breaker:
    """Opens after many failures in a row; then one request at a time asks whether it is over."""

    failures: int = 0
    since: float | None = None
    opens_at: float = -math.inf
    wait: float = BREAKER_SECONDS[0]

    @property
    def is_probing(self) -> bool:
        """Only one request may ask."""
        return self.failures >= BREAKER_FAILURES

    def is_open(self, now: float) -> bool:
        """No request may go out yet."""
        return self.is_probing and now < self.opens_at

    def down_seconds(self, now: float) -> float:
        """Seconds since the first of the failures in a row."""
        return 0.0 if self.since is None else now - self.since

    def count(self, now: float) -> None:
        """One more failure in a row."""
        self.failures += 1
        self.since = now if self.since is None else self.since
        if self.failures == BREAKER_FAILURES:
            self.wait = BREAKER_SECONDS[0]
            self.opens_at = now + self.wait
        elif self.failures > BREAKER_FAILURES and now >= self.opens_at:
            self.wait = min(2 * self.wait, BREAKER_SECONDS[1])
            self.opens_at = now + self.wait

    def close(self) -> None:
        """Something was answered."""
        self.failures, self.since, self.opens_at = 0, None, -math.inf


@dataclass(slots=True)
class Latency:
    """Round by round: seconds per token against the best round, and tokens a second against the most.

    Means over a round, as single replies differ by more than what is looked for. More seconds per
    token are no harm while more tokens a second come of it: batching servers are made so.
    """

    seconds: float = 0.0
    tokens: int = 0
    replies: int = 0
    size: float = START
    began: float = field(default_factory=time.monotonic)
    best: float = math.inf
    most: float = 0.0
    is_queueing: bool = False
    reduction: float = 1.0
    """The factor by which a limit would end the queue, at least one half."""

    def add(self, seconds: float, tokens: int) -> None:
        """One more reply."""
        self.seconds += seconds
        self.tokens += max(1, tokens)
        self.replies += 1

    def end_round(self, limit: float) -> bool:
        """Whether a round trip's replies have come; if so, judge them and begin the next round."""
        if self.replies < self.size:
            return False
        now = time.monotonic()
        each, rate = self.seconds / self.tokens, self.tokens / max(now - self.began, 1e-9)
        self.is_queueing = each > QUEUEING * self.best and rate < WORTHWHILE * self.most
        self.reduction = min(0.95, max(0.5, QUEUEING * self.best / each))
        self.best, self.most = min(1.002 * self.best, each), max(0.99 * self.most, rate)
        self.seconds, self.tokens, self.replies, self.began = 0.0, 0, 0, now
        self.size = max(limit, START)  # fixed here, as the limit grows while the round lasts
        return True
