"""The money of a run: settled + reserved + at risk never passes the cap, at any instant.

Amounts are integer nano-dollars. Every request reserves the most it may cost before it goes out, and
afterwards settles what it did cost, releases what it did not, or leaves it at risk when nobody knows.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from nexa_core.errors import BudgetError
from nexa_core.pipeline import Budget as Settings
from nexa_core.store.money import Spent

NANO = 1_000_000_000
NOTICE_SHARE = 0.8


def in_dollars(nano: int) -> str:
    """An amount for people: cents where there are some, more digits where there are none."""
    usd = nano / NANO
    return f"${usd:,.2f}" if usd >= 0.1 or nano == 0 else f"${usd:.2g}"


@dataclass(slots=True)
class Reservation:
    """Money held for one request; exactly one of its methods ends it."""

    budget: Budget
    role: str
    nano: int

    def settle(self, nano: int) -> None:
        """The request cost this much."""
        self.budget.end(self, settled=nano)

    def release(self) -> None:
        """The request cost nothing."""
        self.budget.end(self)

    def lose(self) -> None:
        """The request may have cost all that was reserved; nobody can say."""
        self.budget.end(self, at_risk=self.nano)


class Budget:
    """One run's money. Without a cap it only counts.

    Args:
        cap_nano: The most the whole run may cost, None for no limit.
        pilot_share: The share of the cap that is open while `in_pilot` is true.
        settled: What was paid before, by role.
        at_risk: What may have been paid before, by role.
        notify: Gets one sentence when four fifths of the cap are gone.
    """

    def __init__(
        self,
        cap_nano: int | None = None,
        pilot_share: float | None = None,
        settled: Mapping[str, int] | None = None,
        at_risk: Mapping[str, int] | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.cap_nano, self._pilot_share = cap_nano, pilot_share
        self.settled, self.at_risk = Counter(settled or {}), Counter(at_risk or {})
        self.reserved = 0
        self.in_pilot = False
        self._gone = self.settled.total() + self.at_risk.total()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._notify: Callable[[str], None] | None = notify

    @property
    def committed(self) -> int:
        """Settled + reserved + at risk."""
        return self._gone + self.reserved

    @property
    def limit(self) -> int | None:
        """What may be committed now: the cap, or the pilot's share of it."""
        if self.cap_nano is None or not self.in_pilot or self._pilot_share is None:
            return self.cap_nano
        return int(self.cap_nano * self._pilot_share)

    @contextmanager
    def piloting(self) -> Iterator[None]:
        """Inside the block only the pilot's share is open."""
        self.in_pilot = True
        try:
            yield
        finally:
            self.in_pilot = False

    async def reserve(self, role: str, nano: int) -> Reservation:
        """Hold `nano` for a request; waits for others to settle while the rest is too short.

        Raises:
            BudgetError: It does not fit, and nothing is under way that could make room.
        """
        if self._waiting or not self._fits(nano):
            await self._wait(nano)
        self.reserved += nano
        return Reservation(self, role, nano)

    def reserve_now(self, role: str, nano: int) -> Reservation:
        """`reserve` without waiting."""
        if not self._fits(nano):
            raise self._refusal(nano)
        self.reserved += nano
        return Reservation(self, role, nano)

    def reclaim(self, role: str, nano: int) -> Reservation:
        """Hold again what a process that died left at risk: its request is still under way."""
        self.at_risk[role] -= nano
        self._gone -= nano
        self.reserved += nano
        return Reservation(self, role, nano)

    def end(self, held: Reservation, settled: int = 0, at_risk: int = 0) -> None:
        """Give back what a reservation held, and count what became of it."""
        self.reserved -= held.nano
        held.nano = 0
        self.settled[held.role] += settled
        self.at_risk[held.role] += at_risk
        self._gone += settled + at_risk
        self._give_notice()
        self._wake()

    def give_up(self, error: BaseException) -> None:
        """End every wait with this error."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _fits(self, nano: int) -> bool:
        limit = self.limit
        return limit is None or self._gone + self.reserved + nano <= limit

    async def _wait(self, nano: int) -> None:
        if not self.reserved and not self._waiting:
            raise self._refusal(nano)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nano, future))
        # `_wake` holds the money from the moment it lets a waiter go.
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.reserved -= nano
                self._wake()
            raise
        self.reserved -= nano

    def _wake(self) -> None:
        while self._waiting:
            nano, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
            elif self._fits(nano):
                self._waiting.popleft()
                self.reserved += nano
                future.set_result(None)
            elif self.reserved:
                return
            else:
                # Nothing is under way any more, so the first in line can never be served.
                self.give_up(self._refusal(nano))

    def _refusal(self, nano: int) -> BudgetError:
        limit = self.limit or 0
        what = "budget" if limit == self.cap_nano else "pilot's share of the budget"
        at_risk = self.at_risk.total()
        lost = f", {in_dollars(at_risk)} at risk" if at_risk else ""
        return BudgetError(
            f"The {what} is used up: {in_dollars(self.settled.total())} of {in_dollars(limit)} "
            f"spent{lost}, and the next request may cost {in_dollars(nano)}.",
            "Everything answered is kept: `nexa resume RUN --set budget.usd=…` goes on with more.",
        )

    def _give_notice(self) -> None:
        if self._notify and self.cap_nano and self._gone >= NOTICE_SHARE * self.cap_nano:
            self._notify(
                f"{self._gone / self.cap_nano:.0%} of the budget of {in_dollars(self.cap_nano)} "
                "is spent"
            )
            self._notify = None


def make_budget(
    settings: Settings | None,
    spent: Spent | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Budget:
    """The budget that a pipeline's `budget:` section asks for, with what was spent before."""
    before = spent or Spent()
    if settings is None:
        return Budget(None, None, before.settled, before.at_risk, notify)
    cap = round(settings.usd * NANO)
    return Budget(cap, settings.pilot_share, before.settled, before.at_risk, notify)
