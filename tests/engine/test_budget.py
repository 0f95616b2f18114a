"""The budget: what is settled, reserved and at risk never passes the cap."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.engine.budget import NANO, Budget, in_dollars
from nexa_core.errors import BudgetError

COSTS = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=60)


@given(cap=st.integers(40, 400), calls=COSTS, seed=st.integers(0, 99))
def test_the_cap_holds_at_every_instant(
    cap: int, calls: list[tuple[int, float]], seed: int
) -> None:
    """Whatever is reserved, settled, released or lost, in whatever order: the sum stays under the cap."""
    asyncio.run(spend(Budget(cap), calls, random.Random(seed)))


async def spend(budget: Budget, calls: list[tuple[int, float]], draw: random.Random) -> None:
    async def call(nano: int, share: float) -> None:
        try:
            held = await budget.reserve("teacher", nano)
        except BudgetError:
            return
        assert budget.committed <= (budget.cap_nano or 0)
        await asyncio.sleep(0)
        end = draw.choice([lambda: held.settle(int(nano * share)), held.release, held.lose])
        end()
        assert budget.committed <= (budget.cap_nano or 0)

    await asyncio.gather(*(call(*each) for each in calls))
    assert budget.reserved == 0


async def test_a_short_budget_waits_for_what_is_under_way() -> None:
    """While something may still settle for less, a request waits instead of giving up."""
    budget = Budget(100)
    first = await budget.reserve("teacher", 80)
    second = asyncio.create_task(budget.reserve("teacher", 60))
    await asyncio.sleep(0)
    assert not second.done()
    first.settle(10)
    (await second).settle(60)
    assert budget.settled["teacher"] == 70


async def test_it_gives_up_when_nothing_can_make_room() -> None:
    """The first in line that can never be served ends every wait."""
    budget = Budget(100)
    held = await budget.reserve("teacher", 80)
    waiting = [asyncio.create_task(budget.reserve("judge", 60)) for _ in range(2)]
    await asyncio.sleep(0)
    held.settle(80)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [BudgetError, BudgetError]


async def test_a_lost_reply_keeps_its_reservation() -> None:
    """Money at risk is not spent twice."""
    budget = Budget(100)
    (await budget.reserve("teacher", 70)).lose()
    assert (budget.at_risk["teacher"], budget.committed) == (70, 70)
    with pytest.raises(BudgetError, match="at risk"):
        await budget.reserve("teacher", 40)


async def test_the_pilot_gets_its_share_only() -> None:
    """What the pilot may not touch is left for scale."""
    budget = Budget(100, pilot_share=0.3)
    with budget.piloting(), pytest.raises(BudgetError, match="pilot's share"):
        await budget.reserve("teacher", 40)
    assert (await budget.reserve("teacher", 40)).nano == 40


def test_a_notice_is_given_once() -> None:
    """At four fifths somebody is told, and not again."""
    told: list[str] = []
    budget = Budget(10 * NANO, notify=told.append)
    for _ in range(10):
        budget.reserve_now("teacher", NANO).settle(NANO)
    assert told == ["80% of the budget of $10.00 is spent"]


def test_amounts_are_written_for_people() -> None:
    """Cents where there are some, two digits where there are none."""
    assert [in_dollars(n) for n in (0, 12_340_000, 2_500_000_000)] == ["$0.00", "$0.012", "$2.50"]


async def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    """Money given to somebody who has left goes to the next."""
    budget = Budget(100)
    held = await budget.reserve("teacher", 100)
    gone = asyncio.create_task(budget.reserve("teacher", 50))
    await asyncio.sleep(0)
    held.release()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert budget.reserved == 0
