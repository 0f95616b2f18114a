"""How a stage takes batches from the one before it: whole, regrouped in row order, or many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from nexa_core.engine.batch import Batch, concat

Stream = AsyncIterator[Batch]


class Step(Protocol):
    """A stage: rows under way come in, in order, and go out again, in order."""

    id: str

    def run(self, batches: Stream) -> Stream: ...


async def one_by_one(batches: Stream, work: Callable[[Batch], Awaitable[Batch]]) -> Stream:
    """Each batch by itself, as it comes."""
    async for batch in batches:
        yield await work(batch)


async def in_groups(
    batches: Stream, work: Callable[[Batch], Awaitable[Batch]], size: int
) -> Stream:
    """Groups of exactly `size` rows under way, whatever batches they came in; the last may be smaller.

    A local model's numbers depend on the composition of its batch, so the composition must depend
    on row order alone.
    """
    held: list[Batch] = []
    alive = 0
    async for batch in batches:
        held.append(batch)
        alive += len(batch.alive_positions())
        while alive >= size:
            rows = concat(held)
            end = int(rows.alive_positions()[size - 1]) + 1
            yield await work(rows.slice(0, end))
            held = [rows.slice(end, len(rows) - end)] if end < len(rows) else []
            alive -= size
    if held:
        yield await work(concat(held))


async def side_by_side(
    batches: Stream, work: Callable[[Batch], Awaitable[Batch]], limit: int
) -> Stream:
    """Up to `limit` batches at work at once; they leave in the order in which they came.

    One that is done leaves at once, and not only when the next one comes: the stage after this one
    would stand idle meanwhile.
    """
    running: deque[asyncio.Future[Batch]] = deque()
    coming: asyncio.Future[Batch] | None = asyncio.ensure_future(anext(batches))
    try:
        while coming is not None or running:
            awaited = {coming} if coming is not None and len(running) < limit else set()
            await asyncio.wait({*awaited, *list(running)[:1]}, return_when=asyncio.FIRST_COMPLETED)
            if running and running[0].done():
                yield running.popleft().result()
            elif coming is not None and coming.done():
                try:
                    running.append(asyncio.ensure_future(work(coming.result())))
                except StopAsyncIteration:
                    coming = None
                    continue
                coming = asyncio.ensure_future(anext(batches))
                # A batch is rendered in one go: the replies of others come between, not after all.
                await asyncio.sleep(0)
    finally:
        if coming is not None:
            coming.cancel()
            running.append(coming)
        # What is under way may be paid for: it is waited for and journaled, never cancelled.
        await asyncio.gather(*running, return_exceptions=True)


async def slices(batch: Batch, size: int) -> Stream:
    """A batch in slices of `size` rows."""
    for start in range(0, len(batch), size):
        yield batch.slice(start, min(size, len(batch) - start))
