"""G5: the cap holds at every position of the journal, and the provider's bill stays below what we know."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexa_core.engine import admission, dispatch
from nexa_core.engine.budget import Budget
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import BudgetError, CallFailed, Charge, Failure
from nexa_core.pipeline import Role
from nexa_core.prices import rates_of
from nexa_core.records import Completion, Request, Usage
from nexa_core.store.frames import encode_frame, scan_frames
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.money import journal_money, read_spent
from nexa_core.store.segments import list_segments
from nexa_core.testing.chaos import Faults
from nexa_core.testing.models import ScriptedRemote

NANO = 10**9
MOST = 50
"""Tokens that a completion may have."""


class Provider:
    """Answers and fails at random, in every way that may cost something, and keeps its own bill."""

    def __init__(self, seed: int, failing: float) -> None:
        self.draw, self.failing = random.Random(seed), failing
        self.rates = rates_of(ROLE)
        self.bill = 0

    def __call__(self, request: Request) -> Completion | Exception:
        prompt = len(str(request.prompt).encode())
        usage = Usage(self.draw.randint(1, prompt), self.draw.randint(1, MOST))
        if self.draw.random() > self.failing:
            self._charge(usage)
            return Completion("x", usage=usage)
        charge = self.draw.choice([*Charge])
        if charge is not Charge.NONE and self.draw.random() < 0.7:
            self._charge(usage)
        elif charge is Charge.KNOWN:
            usage = Usage()
        failure = self.draw.choice([f for f in Failure if f is not Failure.RATE_LIMIT])
        return CallFailed(failure, "no", charge, usage=usage)

    def _charge(self, usage: Usage) -> None:
        assert self.rates is not None
        self.bill += self.rates.cost(usage)


ROLE = Role.model_validate(
    {"model": "openai/m", "price": {"input": 1.0, "output": 2.0}, "concurrency": 64}
)


async def spend(folder: Path, budget: Budget, provider: Provider, calls: int) -> None:
    """Send calls, sixty-four at once, until they or the money are through."""

    async def ask(model: Any, request: Request) -> Completion:
        reply: Completion = await model.complete(request)
        return reply

    model = ScriptedRemote(provider, seconds=0.0001)
    who = Caller("answer", "teacher", (Line(model, ROLE, rates_of(ROLE)),))
    journal = Journal.open(folder, "unit")
    async with Dispatch(budget) as sender:
        requests = [Request(f"c{n}", f"prompt {n}", {"max_tokens": MOST}) for n in range(calls)]
        sent = [asyncio.ensure_future(sender.send(who, r, journal, ask)) for r in requests]
        ends = await asyncio.gather(*sent, return_exceptions=True)
    journal.close()
    assert {type(end) for end in ends if isinstance(end, BaseException)} <= {BudgetError}


def totals(folder: Path, unit: str) -> list[int]:
    """Settled + reserved + at risk after each frame of a journal, nano-dollars."""
    found = []
    with tempfile.TemporaryDirectory() as other:
        for segment in list_segments(folder, unit).values():
            target = Path(other) / segment.name
            for frame in scan_frames(segment.read_bytes()).frames:
                light = {k: v for k, v in frame.items() if k not in ("reply", "raw")}
                with target.open("ab") as file:
                    file.write(encode_frame(light))
                found.append(journal_money(read_journal(Path(other), unit)).total)
    return found


def check_money(seed: int, failing: float, cap_calls: float) -> None:
    """Any mix of ends at any cap: never above the cap, never below the provider's bill."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dispatch, "BACKOFF_SECONDS", (0.0001, 0.0002))
    patch.setattr(admission, "BREAKER_SECONDS", (0.0001, 0.0002))
    folder = Path(tempfile.mkdtemp())
    try:
        rates = rates_of(ROLE)
        assert rates is not None
        cap = round(cap_calls * rates.bound(10, MOST))
        provider, budget = Provider(seed, failing), Budget(cap)
        asyncio.run(spend(folder, budget, provider, 80))
        known = totals(folder, "unit")
        assert max(known, default=0) <= cap
        assert provider.bill <= (known[-1] if known else 0) == budget.committed
    finally:
        patch.undo()
        shutil.rmtree(folder)


SEEDS, SHARES, CAPS = st.integers(0, 10**6), st.floats(0, 0.9), st.floats(0.5, 120)


@settings(max_examples=4)
@given(SEEDS, SHARES, CAPS)
def test_g5_the_cap_holds_at_every_journal_position(
    seed: int, failing: float, cap_calls: float
) -> None:
    """G5: settled + reserved + at-risk ≤ cap at every journal position, and the bill is not above it."""
    check_money(seed, failing, cap_calls)


@pytest.mark.slow
@settings(max_examples=150)
@given(SEEDS, SHARES, CAPS)
def test_g5_the_cap_holds_for_any_mix(seed: int, failing: float, cap_calls: float) -> None:
    """G5: the same for many more mixes of failures and caps."""
    check_money(seed, failing, cap_calls)


def test_g5_a_killed_run_knows_of_every_bill(
    shop: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: After a kill a run counts at least what was billed; resumed, the provider's bill is ≤ the cap."""
    wrong = Faults(rate_limit=0.1, error_500=0.05, error_502=0.05, cut=0.1, reset=0.1, html=0.05)
    server = serve(latency=0.005, bills_maximum=True, faults=wrong, retry_after=0.02)
    one_shard = {"rows": "all", "shard_rows": 200}
    shop.write(server.url, 200, scale=one_shard, budget={"usd": 0.004}, fail_over=0.9)
    monkeypatch.setattr(dispatch, "BACKOFF_SECONDS", (0.01, 0.02))
    shop.kill_at("journal-after-reply:40")
    assert read_spent(shop.run()).total >= server.stats.bill_nano > 0
    assert shop.collect().code == 6
    folder = shop.run().scale.shards
    known = totals(folder, "00000")
    assert max(known) <= 0.004 * NANO
    assert server.stats.bill_nano <= known[-1] == read_spent(shop.run()).total
    assert read_spent(shop.run()).total > 0.9 * 0.004 * NANO
