"""How much the server takes at once: slots, rates, and a queue in front of them where it has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Capacity", "Throttle"]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is taken at once and per second; None is without limit.

    Above `concurrent` a request is refused with 429; with `queues` it waits instead, as in a
    self-hosted server. The rates refuse with 429 in either case; one second's worth may burst.
    """

    concurrent: int | None = None
    requests_per_second: float | None = None
    tokens_per_second: float | None = None
    queues: bool = False


class Throttle:
    """Admits requests within a capacity that may change at any time.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, capacity: Capacity, clock: Callable[[], float]) -> None:
        self.capacity = capacity
        self.working = 0
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = {
            "requests": capacity.requests_per_second,
            "tokens": capacity.tokens_per_second,
        }
        self._filled_at = clock()

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def change(self, capacity: Capacity) -> None:
        """Take another capacity from now on; work under way goes on."""
        self.capacity = capacity
        self._left = {
            "requests": capacity.requests_per_second,
            "tokens": capacity.tokens_per_second,
        }
        self._start_waiting()

    def refuse(self, tokens: int, retry_after: float = 1.0) -> float | None:
        """Seconds after which a refused request may come again, None where it is admitted.

        Where all slots are taken nobody knows when one is free: that says `retry_after`.
        """
        capacity = self.capacity
        full = capacity.concurrent is not None and self.working >= capacity.concurrent
        if full and not capacity.queues:
            return retry_after
        if capacity.requests_per_second is None and capacity.tokens_per_second is None:
            return None
        self._fill()
        wait = max(
            self._missing("requests", 1, capacity.requests_per_second),
            self._missing("tokens", tokens, capacity.tokens_per_second),
        )
        if wait:
            return wait
        for name, amount in (("requests", 1), ("tokens", tokens)):
            left = self._left[name]
            if left is not None:
                self._left[name] = left - amount
        return None

    def enter(self, start: Callable[[], None]) -> None:
        """Start work in a slot, now or when one is free."""
        limit = self.capacity.concurrent
        if limit is not None and self.capacity.queues and self.working >= limit:
            self._waiting.append(start)
        else:
            self.working += 1
            start()

    def leave(self) -> None:
        """Give a slot back."""
        self.working -= 1
        if self._waiting:
            self._start_waiting()

    def left(self, name: str) -> int | None:
        """Requests or tokens that this second still takes, None without a limit."""
        self._fill()
        left = self._left[name]
        return None if left is None else max(0, int(left))

    def _start_waiting(self) -> None:
        limit = self.capacity.concurrent
        while self._waiting and (limit is None or self.working < limit):
            self.working += 1
            self._waiting.popleft()()

    def _fill(self) -> None:
        now = self._clock()
        passed, self._filled_at = now - self._filled_at, now
        for name, rate in (
            ("requests", self.capacity.requests_per_second),
            ("tokens", self.capacity.tokens_per_second),
        ):
            left = self._left[name]
            if left is not None and rate is not None:
                self._left[name] = min(rate, left + rate * passed)

    def _missing(self, name: str, amount: int, rate: float | None) -> float:
        left = self._left[name]
        if left is None or rate is None:
            return 0.0
        # A request larger than a whole second's worth passes when the bucket is full.
        needed = min(amount, rate)
        return max(0.0, (needed - left) / rate)
