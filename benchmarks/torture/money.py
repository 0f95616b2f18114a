"""A hard cap against a server that bills the most it may, with failures and kills: it is never passed."""

from __future__ import annotations

import asyncio
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from nexa_core.engine import dispatch
from nexa_core.engine.budget import Budget
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import CallFailed, Charge, Failure, NexaError
from nexa_core.pipeline import Role
from nexa_core.prices import rates_of
from nexa_core.protocols import Model
from nexa_core.records import Completion, Request, Usage
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.money import Spent, journal_money
from nexa_core.testing.models import ScriptedRemote
from torture.finding import Finding

UNIT, SENDERS, MAX_TOKENS = "00000", 512, 500
CAPS = (37, 37, 60, 120, 300)
"""Caps in calls of the dearest kind."""
ROLE = Role(model="openai/m", price={"input": 0.15, "output": 0.6}, concurrency=SENDERS)


@dataclass
class Meter(ScriptedRemote):
    """A provider that bills every token it may, also for answers that never arrive."""

    chance: random.Random = field(default_factory=random.Random)
    bill: int = 0
    arrived: int = 0
    kill_at: int = -1
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, request: Request) -> Completion:
        fate = self.chance.random()
        if fate < 0.03:
            raise CallFailed(Failure.OVERLOAD, "busy", status=503)
        usage = Usage(self.bound_tokens(request), MAX_TOKENS)
        self.bill += LINE_RATES.cost(usage)
        self.arrived += 1
        if self.arrived == self.kill_at:
            self.killed.set()
        for _ in range(self.chance.randint(1, 6)):
            await asyncio.sleep(0)
        if fate < 0.05:
            raise CallFailed(Failure.TIMEOUT, "no answer", Charge.UNKNOWN)
        return Completion("x", usage=usage)


LINE_RATES = rates_of(ROLE)
assert LINE_RATES is not None


def try_budgets(folder: Path, trials: int) -> Finding:
    """Every trial: more calls than the cap allows at once, a fifth of the trials killed and resumed."""
    first, dispatch.BACKOFF_SECONDS = dispatch.BACKOFF_SECONDS, (0.0005, 0.001)
    shelf = Path("/dev/shm") if Path("/dev/shm").is_dir() else folder
    place = shelf / f"{folder.name}-budgets"
    try:
        results = asyncio.run(_try_all(place, trials))
    finally:
        dispatch.BACKOFF_SECONDS = first
        shutil.rmtree(place, ignore_errors=True)
    over = [one for one in results if one.bill > one.cap or one.known > one.cap]
    unknown = [one for one in results if one.bill > one.known]
    least = min(one.bill / one.cap for one in results)
    kills = sum(one.killed for one in results)
    measured = (
        f"{trials:,} trials, {kills} of them killed and resumed: bill ≤ cap in {trials - len(over):,}, "
        f"at least {least:.1%} of the cap used, bill unknown to the books in {len(unknown)}"
    )
    asked = (
        f"1,000 budget trials at concurrency {SENDERS} against a server that bills the maximum: "
        "bill ≤ cap 1,000 times, ≥ 95 % of the cap usable"
    )
    held = not over and not unknown and least >= 0.95
    return Finding("hard budget", asked, measured, held, {"trials": trials})


@dataclass(frozen=True)
class Trial:
    """What one budget came to, in nano-dollars; `known` is settled and at risk by the journal."""

    cap: int
    bill: int
    known: int
    killed: bool


async def _try_all(place: Path, trials: int) -> list[Trial]:
    return [await _try_one(place / str(number), random.Random(number)) for number in range(trials)]


async def _try_one(place: Path, chance: random.Random) -> Trial:
    _make_folder(place)
    model = Meter(chance=chance)
    line = Line(model, ROLE, LINE_RATES)
    calls = chance.choice(CAPS)
    lengths = [chance.randint(50, 2000) for _ in range(calls * 2 + SENDERS)]
    requests = [
        Request(f"c{number}", "x" * length, {"max_tokens": MAX_TOKENS}, seed=number)
        for number, length in enumerate(lengths)
    ]
    cap = calls * line.bound(Request("dearest", "x" * 2000, {"max_tokens": MAX_TOKENS}))
    killed = chance.random() < 0.2
    if killed:
        model.kill_at = chance.randint(1, calls)
        await _live(place, Caller("answer", "teacher", (line,)), requests, cap)
        model.kill_at = -1
        model.killed = asyncio.Event()
    await _live(place, Caller("answer", "teacher", (line,)), requests, cap)
    known = journal_money(read_journal(place, UNIT)).total
    shutil.rmtree(place)
    return Trial(cap, model.bill, known, killed)


async def _live(place: Path, caller: Caller, requests: list[Request], cap: int) -> None:
    """One process's life: goes on from the journal, ends when the money does, or is killed."""
    contents = read_journal(place, UNIT)
    before: Spent = journal_money(contents)
    journal = Journal.open(place, UNIT)
    model = caller.model
    assert isinstance(model, Meter)

    async def ask(_: Model, request: Request) -> Completion:
        return await model.complete(request)

    left = iter([request for request in requests if request.id not in contents.replies])
    async with Dispatch(Budget(cap, None, before.settled, before.at_risk)) as sender:

        async def send() -> None:
            for request in left:
                try:
                    await sender.send(caller, request, journal, ask)
                except NexaError:
                    return

        tasks = [asyncio.create_task(send()) for _ in range(SENDERS)]
        killer = asyncio.create_task(model.killed.wait())
        whole = asyncio.gather(*tasks)
        await asyncio.wait({whole, killer}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, killer):
            task.cancel()
        await asyncio.gather(*tasks, killer, whole, return_exceptions=True)
    journal.close()


def _make_folder(place: Path) -> None:
    place.mkdir(parents=True)
