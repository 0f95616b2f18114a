"""A provider whose capacity changes: the limit finds it, and keeps from asking too much."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from nexa_core import Request, Role
from nexa_core.engine.admission import Admission
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Caller, Line
from nexa_core.protocols import Model
from nexa_core.testing.chaos import Capacity, Entry, RemoteControl
from nexa_openai.model import build_model
from torture.collecting import serving
from torture.finding import Finding

CAPACITIES = (50, 10, 80)
WINDOW_SECONDS = 5.0
WITHIN, MOST_REFUSED = 0.15, 0.02
SENDERS = 300


@dataclass
class Phase:
    """One capacity: when it began by the server's clock, and how many were under way ever since."""

    capacity: int
    began: float
    samples: list[tuple[float, int]] = field(default_factory=list)

    def reached_after(self) -> float | None:
        """Seconds until the mean of a window came within the bound for the first time."""
        for at, _ in self.samples:
            window = [n for t, n in self.samples if at - WINDOW_SECONDS <= t <= at]
            full = at >= self.samples[0][0] + WINDOW_SECONDS
            if full and abs(sum(window) / len(window) / self.capacity - 1) <= WITHIN:
                return at - self.samples[0][0]
        return None

    def settled_mean(self) -> float:
        """The mean of the second half."""
        half = [n for _, n in self.samples[len(self.samples) // 2 :]]
        return sum(half) / len(half)

    def refused_share(self, log: list[Entry], end: float) -> float:
        """The share of 429 in the second half."""
        start = (self.began + end) / 2
        asked = [entry.status for entry in log if start <= entry.at < end]
        return asked.count(429) / max(1, len(asked))


def follow_capacity(folder: Path, seconds: float) -> Finding:
    """Ask without pause while the capacity goes 50 → 10 → 80, `seconds` each."""
    first = Capacity(CAPACITIES[0])
    with serving(folder, latency=0.15, jitter=0.1, retry_after=0.2, capacity=first) as server:
        phases = asyncio.run(_ask_on(server, seconds))
        log = server.log
    ends = [phase.began for phase in phases[1:]] + [phases[-1].began + seconds]
    told, held = [], True
    for phase, end in zip(phases, ends, strict=True):
        reached, share = phase.reached_after(), phase.refused_share(log, end)
        mean = phase.settled_mean()
        fine = reached is not None and reached <= 60 and share <= MOST_REFUSED
        held &= fine and abs(mean / phase.capacity - 1) <= WITHIN
        when = "never" if reached is None else f"in {reached:.0f} s"
        told.append(f"{phase.capacity}: {when}, then {mean:.1f} under way, {share:.1%} refused")
    asked = "capacity 50 → 10 → 80: concurrency within 15 % in 60 s, steady 429 ≤ 2 %"
    return Finding("capacity steps", asked, "; ".join(told), held, {"seconds": seconds})


async def _ask_on(server: RemoteControl, seconds: float) -> list[Phase]:
    role = Role(model="openai-compatible/chaos", base_url=server.url, concurrency=256)
    model = build_model(role)
    model.self_hosted = False  # on loopback it would be taken for one, and judged by its latency
    caller = Caller("answer", "teacher", (Line(model, role),))
    numbers = iter(range(10**9))

    async def ask(_: Model, request: Request) -> object:
        return await model.complete(request)

    async with Dispatch() as sender:

        async def send() -> None:
            while True:
                number = next(numbers)
                await sender.send(caller, Request(f"c{number}", "x", seed=number), None, ask)

        tasks = [asyncio.create_task(send()) for _ in range(SENDERS)]
        born, phases = time.monotonic(), []
        for capacity in CAPACITIES:
            await asyncio.to_thread(server.change, capacity=capacity)
            phase = Phase(capacity, time.monotonic() - born)
            phases.append(phase)
            await _sample(phase, sender, born, seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await model.aclose()
    return phases


async def _sample(phase: Phase, sender: Dispatch, born: float, seconds: float) -> None:
    while (now := time.monotonic() - born) < phase.began + seconds:
        under_way = sum(admission.under_way for admission in _admissions(sender))
        phase.samples.append((now, under_way))
        await asyncio.sleep(0.1)


def _admissions(sender: Dispatch) -> list[Admission]:
    return list(sender.admissions.values())
