"""Carries a run out: one owner, its events told, signals heard, and at the end its report."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nexa_core.actions.thresholds import keep_thresholds
from nexa_core.engine.announcer import Announcer, Listener
from nexa_core.engine.campaign import Outcome, run_campaign
from nexa_core.engine.context import Context, StopFlag
from nexa_core.engine.loop import run_async
from nexa_core.engine.plan import Plan
from nexa_core.events import Event
from nexa_core.protocols import Source
from nexa_core.report import write_report
from nexa_core.store.lock import RunLock
from nexa_core.store.replies import Replies
from nexa_core.store.runs import Run, open_run
from nexa_core.workspace import Workspace

CHANGEABLE = ("budget", "fail_over")
"""Sections that may change after a run has begun; what comes after the rows may too, by its own command."""


@dataclass(frozen=True)
class Conduct:
    """How a run is carried on: see the fields of the same names of `Context`.

    `reuse` names earlier runs whose replies a new run takes for nothing; a `rehearsal` is marked as
    one for ever.
    """

    salvage: bool = False
    retry_failed: bool = False
    reuse: tuple[str, ...] = ()
    rehearsal: bool = False
    frozen: bool = False
    allow_short: bool = False
    changeable: tuple[str, ...] = CHANGEABLE


DEFAULT = Conduct()


def carry_out(
    run: Run,
    plan: Plan,
    source: Source | None,
    workspace: Workspace,
    phases: Sequence[str],
    listeners: Sequence[Listener],
    begun: Sequence[Event],
    conduct: Conduct,
) -> Outcome:
    """Carry a run on under its lock, from the events it begins with to its report."""
    with RunLock.acquire(run.path):
        announcer = Announcer(run.path, (plan.plugins.notify, *listeners))
        reviews = workspace.reviews_path / run.id
        context = Context(
            run,
            plan,
            announcer,
            reviews,
            source,
            salvage=conduct.salvage,
            frozen=conduct.frozen,
            allow_short=conduct.allow_short,
            retry_failed=conduct.retry_failed,
            reused=read_reused(run, workspace),
        )
        for event in begun:
            announcer.announce(event)
        try:
            with stopping_on_signals(context.stop):
                outcome: Outcome = run_async(run_campaign(context, phases))
        finally:
            announcer.close()
        keep_thresholds(run, workspace)
        outcome.results["report"] = str(write_report(run, reviews))
        return outcome


def read_reused(run: Run, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
    """The replies that a run may take for nothing."""
    names = run.record.get("reuse") or []
    return Replies([open_run(workspace.artifacts_path, name) for name in names]) if names else {}


@contextmanager
def stopping_on_signals(stop: StopFlag) -> Iterator[None]:
    """SIGINT and SIGTERM drain the run; the second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.signal = number

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
