"""What every part of a running campaign shares: the run, the plan, who is told, whether to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nexa_core.engine.announcer import Announcer
from nexa_core.engine.budget import make_budget
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.plan import Plan
from nexa_core.engine.sampling import RowSampler
from nexa_core.engine.sources import SourceRow, invent_rows, read_rows, sample_rows
from nexa_core.events import WarningRaised
from nexa_core.protocols import Source
from nexa_core.store.events import read_events
from nexa_core.store.money import read_spent
from nexa_core.store.runs import Run


class RunInterrupted(Exception):  # noqa: N818 - a stop that was asked for is no error
    """The run was asked to stop; what was under way has been journaled. `signal` is its number."""

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__(f"stopped by signal {signal}")


class RunHalted(Exception):  # noqa: N818 - a decision, and no error
    """The run has decided to go no further; what was under way has been journaled."""


@dataclass
class StopFlag:
    """Set by a signal handler, or by the run itself; asked before every new call and every new shard."""

    signal: int | None = None
    halted: str | None = None
    """Why the run goes no further by its own decision."""

    def check(self) -> None:
        """Raise RunInterrupted once a stop was asked for, RunHalted once the run has decided so."""
        if self.signal is not None:
            raise RunInterrupted(self.signal)
        if self.halted is not None:
            raise RunHalted(self.halted)


@dataclass
class Context:
    """One running campaign. `source` is None for a pipeline that invents its rows."""

    run: Run
    plan: Plan
    announcer: Announcer
    reviews: Path
    source: Source | None = None
    stop: StopFlag = field(default_factory=StopFlag)
    reused: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Replies of other runs that may be taken for nothing, by call id."""
    retry_failed: bool = False
    """Do shards with failed rows again; what was answered in them is replayed."""
    salvage: bool = False
    """Take what is whole of a damaged journal, and ask the lost calls again."""
    frozen: bool = False
    """Make no further shard: work with what is committed."""
    allow_short: bool = False
    """Go on to package and train although fewer rows were accepted than wanted."""

    @cached_property
    def dispatch(self) -> Dispatch:
        """Sends every call of the run, within its limits and its money."""
        budget = make_budget(
            self.plan.pipeline.budget,
            read_spent(self.run, self.salvage),
            lambda notice: self.announcer.announce(WarningRaised(notice)),
        )
        return Dispatch(budget, self.stop.check, self.announcer.announce)

    @cached_property
    def sampler(self) -> RowSampler:
        """Shows a few of the run's rows while they are made."""
        return RowSampler(self.announcer.announce)

    @cached_property
    def _told(self) -> frozenset[str]:
        records = read_events(self.run.path).records
        return frozenset(str(r["review"]) for r in records if r["event"] == "GateDecided")

    def has_told(self, review: str) -> bool:
        """Whether the events of earlier processes tell of a decision: a kill may come between."""
        return not review or review in self._told

    @property
    def seed(self) -> int:
        return self.plan.pipeline.seed

    def read_rows(self) -> Iterator[SourceRow]:
        """One pass over the source."""
        assert self.source is not None
        return read_rows(self.source, self.plan.pipeline)

    @cached_property
    def pilot_order(self) -> list[SourceRow]:
        """The rows that pilots may use, in the random order in which they use them."""
        pipeline, gate = self.plan.pipeline, self.plan.gate
        planned = pipeline.pilot.rows if isinstance(pipeline.pilot.rows, int) else 0
        most = max(planned, gate.max_rows if gate else 0, 1)
        # One more than can be used, so that a source that is just used up is known to be.
        return sample_rows(self.read_rows(), self.seed, most * pipeline.pilot.max_iterations + 1)

    def holds_every_row(self, used_before: int, rows: int) -> bool:
        """Whether `rows` rows of one iteration, the first to use any, are the whole source."""
        return self.source is not None and used_before == 0 and rows >= len(self.pilot_order)

    def pilot_rows(self, unit: str, used_before: int, start: int, count: int) -> list[SourceRow]:
        """Rows `start` … `start + count` of one iteration; `used_before` rows went to earlier ones."""
        if self.source is None:
            return invent_rows(self.seed, unit, start, count)
        first = used_before + start
        return self.pilot_order[first : first + count]
