"""Time on a machine that is paid by the hour: reserved in blocks before, settled by the clock after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from nexa_core.engine.budget import NANO, Budget, Reservation
from nexa_core.errors import BudgetError

T = TypeVar("T")
BLOCK_SECONDS = 60.0


class MachineTime:
    """One piece of work on a machine; `usd_per_hour` None or 0 costs nothing and reserves nothing.

    `begin`, `tick` at least once a block, `end`. A block that the budget cannot hold raises
    BudgetError before it begins; the blocks before it are settled by `end`. `note` is told what is
    settled and what would be at risk if the process died now, in nano-dollars.
    """

    def __init__(
        self,
        budget: Budget,
        role: str,
        usd_per_hour: float | None,
        note: Callable[[int, int], None] = lambda settled, at_risk: None,
    ) -> None:
        self._budget, self._role, self._note = budget, role, note
        self._nano_per_second = round((usd_per_hour or 0.0) * NANO / 3600)
        self._held: list[Reservation] = []
        self._began = 0.0
        self.cost_nano = 0
        self.short: BudgetError | None = None
        """The money ended while the work went on."""

    def begin(self) -> None:
        """Reserve the first block.

        Raises:
            BudgetError: There is no room for it.
        """
        self._began = time.monotonic()
        self._reserve()

    def tick(self) -> None:
        """Reserve the next block where the present one is used up; raises as `begin` does."""
        while self._held and time.monotonic() - self._began >= BLOCK_SECONDS * len(self._held):
            self._reserve()

    def end(self) -> int:
        """Settle the time used, in nano-dollars, and release the rest."""
        if self._held:
            used = time.monotonic() - self._began
            self.cost_nano = round(used * self._nano_per_second)
            left = self.cost_nano
            for held in self._held:
                paid = min(left, held.nano)
                left -= paid
                # What a stalled clock let run over is owed too, and is counted with the last block.
                held.settle(paid + (left if held is self._held[-1] else 0))
        if self._held:
            self._note(self.cost_nano, 0)
        self._held = []
        return self.cost_nano

    async def measure(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work and settle its time; work that has begun is brought to its end.

        Where the money ended meanwhile, `short` says so: what was made is paid for, and is kept first.
        """
        if not self._nano_per_second:
            return await work
        try:
            self.begin()
        except BudgetError:
            work.close()
            raise
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=BLOCK_SECONDS / 4)
                try:
                    self.tick()
                except BudgetError as error:
                    self.short = error
                    await asyncio.wait({task})
            return task.result()
        finally:
            self.end()

    def split(self, parts: int) -> Iterator[int]:
        """The cost in `parts` whole parts that add up to it."""
        each, rest = divmod(self.cost_nano, max(1, parts))
        return (each + (number < rest) for number in range(parts))

    def _reserve(self) -> None:
        if self._nano_per_second:
            nano = round(BLOCK_SECONDS * self._nano_per_second)
            self._held.append(self._budget.reserve_now(self._role, nano))
            self._note(0, sum(held.nano for held in self._held))
