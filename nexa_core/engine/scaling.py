"""Scale: shards until exactly the wanted number of rows is accepted, the passing pilot counted in."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nexa_core.engine.context import Context
from nexa_core.engine.dispatch import DEFAULT_CONCURRENCY
from nexa_core.engine.pilot import Iteration
from nexa_core.engine.plan import Plan
from nexa_core.engine.scale_watch import Halt, ScaleWatch
from nexa_core.engine.sources import SourceRow, invent_rows
from nexa_core.engine.unit import Unit, Work
from nexa_core.pipeline import Pipeline, from_resolved, roles_of
from nexa_core.records import State
from nexa_core.stats import bounds

REMOTE_OVERLAP = 3
"""Shards under way: two that ask, and one that is being committed."""
BATCH_OVERLAP = 8
MOST_OVERLAP = 32
FEWEST_ROWS = 16
SPARE = 1.05


@dataclass(frozen=True)
class Scaled:
    """What scale came to. `short` when the source or `max_rows` ended before the goal."""

    unit: Unit
    units: tuple[Unit, ...]
    """Every unit of the dataset in order: the passing pilot, then scale."""
    short: str | None = None
    halt: Halt | None = None
    """Why it went no further, where its rows are not what the pilot promised."""


class RowSupply:
    """The rows for scale in source order, without those of the passing pilot."""

    def __init__(self, context: Context, pilot: Unit | None, skip: int) -> None:
        self._context = context
        self._rows = iter(()) if context.source is None else self._unused(pilot)
        self._given = 0
        self.take(skip)

    def _unused(self, pilot: Unit | None) -> Iterator[SourceRow]:
        used = _source_ids(pilot) if pilot else set()
        return (row for row in self._context.read_rows() if row.source_id not in used)

    def take(self, count: int) -> list[SourceRow]:
        """The next rows, fewer when the source runs dry."""
        if self._context.source is None:
            rows = invent_rows(self._context.seed, "scale", self._given, count)
        else:
            rows = [row for _, row in zip(range(count), self._rows, strict=False)]
        self._given += len(rows)
        return rows


def _source_ids(unit: Unit) -> set[str]:
    found: set[str] = set()
    for entry in unit.entries:
        found.update(unit.read(entry, ["source_id"])["source_id"].to_pylist())
    return found


async def run_scale(context: Context, passed: Iteration | None) -> Scaled:
    """Commit scale shards until the goal is met; shards that an earlier process committed count."""
    plan = passed.plan if passed else context.plan
    pilot = passed.unit if passed else None
    unit = Unit(context, plan, context.run.scale, before=[pilot] if pilot else [])
    units = (pilot, unit) if pilot else (unit,)
    goal = Goal(plan, unit, pilot, from_resolved(context.run.record["pipeline"]))
    watch = ScaleWatch(context, plan.gate, pilot.entries) if plan.gate and pilot else None
    halt = watch.look(unit.entries) if watch else None
    if context.frozen or halt:
        return Scaled(unit, units, goal.short(dry=False), halt)
    supply = RowSupply(context, pilot, unit.source_rows)
    running: deque[asyncio.Task[Work]] = deque()
    sizes = [entry.source_rows for entry in unit.entries]
    dry = False
    try:
        while True:
            while len(running) < goal.overlap and not dry:
                count = goal.next_rows(sizes)
                if not count and not running:
                    count = goal.next_rows(sizes, overlap=1)
                # Parsing a thousand rows takes longer than replies should wait.
                rows = await asyncio.to_thread(supply.take, count)
                dry = len(rows) < count
                if not rows:
                    break
                running.append(asyncio.ensure_future(unit.compute(len(sizes), rows)))
                sizes.append(len(rows))
            if not running:
                break
            await unit.commit(await running[0], goal.quota)
            running.popleft()
            halt = watch.look(unit.entries) if watch else None
            if halt:
                # Shards under way ask nothing new; what they were answered stays in their journals.
                context.stop.halted = halt.reason
                break
    finally:
        await asyncio.gather(*running, return_exceptions=True)
    return Scaled(unit, units, goal.short(dry), halt)


class Goal:
    """How many rows are still to be taken in.

    The size of a shard depends only on shards that are `overlap` or more before it, so that a
    resumed run plans the same shards, whatever was under way when it ended. `begun` is the pipeline as
    the run began with it: the concurrency may be another now, and the overlap must not be.
    """

    def __init__(self, plan: Plan, unit: Unit, pilot: Unit | None, begun: Pipeline) -> None:
        settings = plan.pipeline.scale
        assert settings is not None
        self._settings, self._unit, self._pilot = settings, unit, pilot
        self.overlap = find_overlap(plan, begun)
        self.max_rows = self._most_rows()

    def _most_rows(self) -> int | None:
        wanted = self._settings.accepted
        if wanted is None:
            return self._settings.rows if isinstance(self._settings.rows, int) else None
        if self._settings.max_rows is not None:
            return self._settings.max_rows
        lower = 0.1
        if self._pilot is not None:
            accepted, rows = self._pilot.count(State.ACCEPTED), self._pilot.source_rows
            lower = max(0.01, bounds(accepted, rows, 0.05)[0])
        return math.ceil(3 * wanted / lower)

    @property
    def _units(self) -> list[Unit]:
        return [unit for unit in (self._pilot, self._unit) if unit is not None]

    @property
    def accepted(self) -> int:
        """Accepted rows so far, the passing pilot's counted."""
        return sum(unit.count(State.ACCEPTED) for unit in self._units)

    @property
    def taken(self) -> int:
        """Source rows taken in so far, the passing pilot's counted."""
        return sum(unit.source_rows for unit in self._units)

    @property
    def quota(self) -> int | None:
        """How many more rows may be accepted; None where scale works through rows."""
        wanted = self._settings.accepted
        return None if wanted is None else wanted - self.accepted

    def next_rows(self, sizes: list[int], overlap: int | None = None) -> int:
        """The size of the shard after those of `sizes` source rows; 0 when no more are to be taken.

        The last `overlap` - 1 shards count by what the others led to expect: they may be under way. When
        that is enough and all are committed, the same question with an overlap of 1 takes them as they are.
        """
        known = self._unit.entries[: max(0, len(sizes) - (overlap or self.overlap) + 1)]
        under_way = sum(sizes[len(known) :])
        piloted = self._pilot.source_rows if self._pilot else 0
        taken = piloted + sum(sizes[: len(known)])
        size = self._settings.shard_rows
        if self.max_rows is not None:
            size = min(size, self.max_rows - taken - under_way)
        if self._settings.accepted is not None:
            accepted = (self._pilot.count(State.ACCEPTED) if self._pilot else 0) + sum(
                entry.rows.get(State.ACCEPTED, 0) for entry in known
            )
            rate = (accepted + 1) / (taken + 1)
            missing = self._settings.accepted - accepted - under_way * rate
            if missing <= 0:
                return 0
            size = min(size, max(FEWEST_ROWS, math.ceil(SPARE * missing / rate)))
        return max(0, size)

    def short(self, dry: bool) -> str | None:
        """Why the goal was missed, None when it was met."""
        wanted = self._settings.accepted
        if wanted is None or self.accepted >= wanted:
            return None
        why = "scale was not finished"
        if dry:
            why = "the source has no more rows"
        elif self.max_rows is not None and self.taken >= self.max_rows:
            why = f"max_rows {self.max_rows} is reached"
        return f"{self.accepted} of {wanted} rows accepted: {why}"


def find_overlap(plan: Plan, begun: Pipeline) -> int:
    """How many shards are under way at once, so that no tail idles an endpoint.

    One where a model of this process answers; many where batches take hours; else enough to fill
    every place that a role of the pipeline `begun` may have twice.
    """
    roles = {role for step in plan.pipeline.steps for role in roles_of(step)}
    lines = [line for role in sorted(roles) for line in plan.lines(role)]
    if any(line.model.batch_size for line in lines):
        return 1
    if any(line.role.batch is True for line in lines):
        return BATCH_OVERLAP
    paced = [role for name in roles for role in (begun.models[name], *begun.fallbacks(name))]
    widest = max((role.concurrency or DEFAULT_CONCURRENCY for role in paced), default=1)
    rows = plan.pipeline.scale.shard_rows if plan.pipeline.scale else 1
    return min(MOST_OVERLAP, max(REMOTE_OVERLAP, math.ceil(2 * widest / rows) + 1))
