"""A unit's folder of shards: computes them, folds what depends on earlier rows, commits them in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.batch import Batch
from nexa_core.engine.calls import Calls
from nexa_core.engine.context import Context
from nexa_core.engine.plan import Plan
from nexa_core.engine.shard import ShardOrder, finish_table, run_steps
from nexa_core.engine.sources import SourceRow
from nexa_core.engine.steps.check import one_piece
from nexa_core.engine.tallies import tally_rows
from nexa_core.errors import CheckError, TooManyFailuresError, UsageError, boundary
from nexa_core.events import ShardCommitted, ShardProgressed, WarningRaised
from nexa_core.records import REASON_HEAD, State
from nexa_core.store import journal as journals
from nexa_core.store import manifest as manifests
from nexa_core.store import shards
from nexa_core.store.money import journal_money
from nexa_core.store.recovery import take_back
from nexa_core.store.runs import ShardFolder

FEWEST_ROWS_TO_GIVE_UP = 20


@dataclass(frozen=True)
class Work:
    """A shard computed and not yet committed."""

    order: ShardOrder
    batch: Batch
    calls: Calls
    journal: journals.Journal | None
    seconds: float


class Unit:
    """The shards of one iteration, or of scale.

    `before` are units whose committed rows come first for set checks: the passing pilot for scale.
    `is_decided` says that the gate's decision rests on the shards there are.
    """

    def __init__(
        self,
        context: Context,
        plan: Plan,
        folder: ShardFolder,
        before: Sequence[Unit] = (),
        is_decided: bool = False,
    ) -> None:
        self.context, self.plan, self.folder = context, plan, folder.create()
        self.name = folder.name
        if context.retry_failed and not is_decided:
            self._take_back_failed()
        self.entries = self._sound_entries()
        self.exhausted = False
        """The source has no further row for this unit."""
        self.is_whole = False
        """Every row of the source is in this unit."""
        self._before = before
        self._folds: dict[str, Any] | None = None

    def _take_back_failed(self) -> None:
        for entry in manifests.read_manifest(self.folder.path):
            if entry.rows.get(State.FAILED, 0):
                take_back(self.folder, entry, "its failed rows are tried again")

    def _sound_entries(self) -> list[manifests.ShardEntry]:
        """The committed shards; those whose files went bad are retracted, to be done again."""
        entries = manifests.read_manifest(self.folder.path)
        for entry in shards.find_damaged(self.folder.shards, entries):
            take_back(self.folder, entry, "a file is missing or altered")
            told = f"{entry.unit} was damaged on disk and is done again"
            self.context.announcer.announce(WarningRaised(told))
        entries = manifests.read_manifest(self.folder.path)
        # Only shards without a gap before them count: later ones may rest on the missing one.
        whole = [e for position, e in enumerate(entries) if e.shard == position]
        for entry in entries[len(whole) :]:
            take_back(self.folder, entry, "an earlier shard is done again")
        shards.sweep(self.folder.shards, whole)
        return whole

    def read(self, entry: manifests.ShardEntry, columns: list[str] | None = None) -> pa.Table:
        """The rows of a committed shard."""
        return shards.read_shard(self.folder.shards / f"{entry.shard:05d}.parquet", columns=columns)

    def count(self, state: State) -> int:
        """Rows in a state over the committed shards."""
        return sum(entry.rows.get(state, 0) for entry in self.entries)

    @property
    def source_rows(self) -> int:
        """Source rows that the committed shards took in."""
        return sum(entry.source_rows for entry in self.entries)

    async def compute(self, index: int, rows: Sequence[SourceRow]) -> Work:
        """Take rows through every step; replies that an earlier process journaled are replayed."""
        self.context.stop.check()
        if self.context.frozen:
            raise UsageError(
                f"Run '{self.context.run.id}' has not finished its {self.name.partition('/')[0]}.",
                f"`nexa resume {self.context.run.id}` takes it up again.",
            )
        started = time.perf_counter()
        order = ShardOrder(self.context.run.id, self.name, index, rows)
        found, journal = journals.JournalContents(), None
        if self.plan.asks_models:
            found = journals.read_journal(self.folder.shards, order.name, self.context.salvage)
            journal = journals.Journal.open(self.folder.shards, order.name)
        calls = Calls(
            self.context.dispatch,
            journal,
            found.replies,
            found.intents,
            self.context.reused,
            journal_money(found),
        )
        try:
            batch = await run_steps(
                self.plan, order, calls, self._progress(order), self._sampler(order)
            )
        except BaseException:
            await calls.drain()
            if journal:
                journal.close()
            raise
        return Work(order, batch, calls, journal, time.perf_counter() - started)

    def _progress(self, order: ShardOrder) -> Any:
        done: dict[str, int] = {}

        def report(step: str, rows: int) -> None:
            done[step] = done.get(step, 0) + rows
            self.context.announcer.announce(
                ShardProgressed(f"{self.name}/{order.name}", step, done[step], len(order.rows))
            )

        return report

    def _sampler(self, order: ShardOrder) -> Callable[[Batch], None]:
        name = f"{self.name}/{order.name}"
        return lambda batch: self.context.sampler.offer(name, batch)

    async def commit(self, work: Work, quota: int | None = None) -> manifests.ShardEntry:
        """Fold, stamp and store a shard; shards are committed in order.

        Accepted rows beyond `quota` become surplus. After this the journal is gone and the shard is
        in the manifest. The work is done in a thread, so that calls of other shards go on.
        """
        entry, table = await asyncio.to_thread(self._store, work, quota)
        self.entries.append(entry)
        self._announce(entry)
        self._give_up_if_failing(table)
        return entry

    def _store(self, work: Work, quota: int | None) -> tuple[manifests.ShardEntry, pa.Table]:
        batch = self._fold(work.batch)
        if quota is not None:
            batch = stamp_surplus(batch, quota)
        table = finish_table(self.plan, work.order, batch)
        if work.journal:
            work.journal.close()
        calls = work.calls.table() if work.calls.records else None
        files = shards.commit_shard(self.folder.shards, work.order.index, table, calls)
        entry = manifests.ShardEntry(
            unit=self.folder.unit(work.order.index),
            shard=work.order.index,
            rows=_counted(table["state"]),
            reasons=_counted(_heads(table["reason"])),
            files=files.files,
            content_hash=files.content_hash,
            calls=work.calls.counts,
            cost_nano=dict(+work.calls.spent.settled),
            at_risk_nano=dict(+work.calls.spent.at_risk),
            served=work.calls.served,
            metrics=tally_rows(self.plan.metrics, table, self.plan.slices),
            source_rows=len(work.order.rows),
            seconds=round(work.seconds, 3),
        )
        manifests.append_entry(self.folder.path, entry)
        if work.journal:
            work.journal.remove()
        return entry, table

    def _fold(self, batch: Batch) -> Batch:
        for named in self.plan.set_checks:
            accepted = pc.equal(batch.state, State.ACCEPTED.value)
            with boundary(CheckError, f"The check '{named.id}'"):
                state, found = named.check.fold(
                    self._fold_state(named.id), batch.table.filter(accepted)
                )
            assert self._folds is not None
            self._folds[named.id] = state
            batch = _apply_fold(batch, named.id, named.on_fail, accepted, found)
        return batch

    def _fold_state(self, check_id: str) -> Any:
        if self._folds is None:
            self._folds = self._replay_folds()
        return self._folds[check_id]

    def _replay_folds(self) -> dict[str, Any]:
        states = {named.id: named.check.start() for named in self.plan.set_checks}
        for unit in (*self._before, self):
            for entry in unit.entries:
                table = unit.read(entry)
                kept = table.filter(pc.is_in(table["state"], value_set=pa.array(_KEPT)))
                for named in self.plan.set_checks:
                    states[named.id], _ = named.check.fold(states[named.id], kept)
        return states

    def _announce(self, entry: manifests.ShardEntry) -> None:
        cost = sum(entry.cost_nano.values())
        self.context.announcer.announce(
            ShardCommitted(entry.unit, entry.rows, entry.calls, cost, entry.seconds)
        )

    def _give_up_if_failing(self, table: pa.Table) -> None:
        failed, total = self.count(State.FAILED), sum(sum(e.rows.values()) for e in self.entries)
        allowed = self.plan.pipeline.fail_over
        if total < FEWEST_ROWS_TO_GIVE_UP or failed <= allowed * total:
            return
        reasons = table.filter(pc.equal(table["state"], State.FAILED.value))["reason"]
        first = f" One of them: {reasons[0].as_py()}." if len(reasons) else ""
        raise TooManyFailuresError(
            f"{failed} of {total} rows failed, over `fail_over: {allowed:.0%}`.{first}",
            "Mend the cause and start again, or allow more with --set fail_over=…",
        )


_KEPT = [State.ACCEPTED.value, State.SURPLUS.value]  # no Arrow yet: its first array loads pandas


def stamp_surplus(batch: Batch, quota: int) -> Batch:
    """Accepted rows after the first `quota` become surplus, in row order."""
    accepted = pc.equal(batch.state, State.ACCEPTED.value).to_numpy(zero_copy_only=False)
    beyond = accepted & (np.cumsum(accepted) > max(0, quota))
    mask = pa.array(beyond)
    return replace(batch, state=pc.if_else(mask, pa.scalar(State.SURPLUS.value), batch.state))


def _apply_fold(batch: Batch, check_id: str, on_fail: str, accepted: pa.Array, found: Any) -> Batch:
    whole = one_piece(found)

    def place(values: pa.Array) -> pa.Array:
        return pc.replace_with_mask(pa.nulls(len(batch), values.type), accepted, values)

    batch = batch.with_score(check_id, place(whole.values))
    failed = pc.fill_null(place(whole.failed), False)
    if on_fail == "flag":
        return batch.with_flag(check_id, failed)
    state = pc.if_else(failed, pa.scalar(State.REJECTED.value), batch.state)
    said = pa.scalar(check_id)
    if whole.reasons is not None:
        detailed = pc.binary_join_element_wise(said, place(whole.reasons), ": ")
        said = pc.coalesce(detailed, said)
    reason = pc.if_else(failed, said, batch.reason)
    return replace(batch, state=state, reason=reason)


def _heads(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    """Reasons without their details, so that they can be counted."""
    return pc.replace_substring_regex(reasons, REASON_HEAD, r"\1")


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(column.drop_null())
    pairs = ((item["values"].as_py(), item["counts"].as_py()) for item in counts)
    return dict(sorted(pairs))
