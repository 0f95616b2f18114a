"""The loop of a run: pilot, scale, package, train, evaluate, each phase once, each resumable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nexa_core.engine.budget import NANO
from nexa_core.engine.context import Context, RunInterrupted
from nexa_core.engine.dataset_gate import foretell_duplicates, judge_dataset
from nexa_core.engine.evaluation import evaluate_run
from nexa_core.engine.foresight import foresee
from nexa_core.engine.gating import judge_scale
from nexa_core.engine.package_runs import package_run
from nexa_core.engine.pilot import Iteration, run_pilot
from nexa_core.engine.role_checks import find_unpriced
from nexa_core.engine.scaling import Scaled, run_scale
from nexa_core.engine.training import train_run
from nexa_core.engine.unit import Unit
from nexa_core.errors import BudgetError, NexaError
from nexa_core.events import PhaseFinished, PhaseStarted, RunFinished
from nexa_core.records import Decision, State
from nexa_core.store.money import Spent

PHASES = ("pilot", "scale", "package", "train", "evaluate")

EXIT_CODES = {"done": 0, "stopped": 1, "short": 1, "waiting": 10, "budget": 6}


@dataclass
class Outcome:
    """How a run ended, and what it made; `as_json` is what `nexa run --json` prints."""

    run: str
    status: str = "done"
    reason: str = ""
    iterations: list[Iteration] = field(default_factory=list)
    units: tuple[Unit, ...] = ()
    results: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    signal: int | None = None
    wanted: int | None = None
    """The accepted rows that scale was to end with."""
    spent: Spent = field(default_factory=Spent)
    unpriced: tuple[str, ...] = ()
    """References of models whose tokens cost nobody knows what; what they cost is not in `spent`."""

    @property
    def exit_code(self) -> int:
        """0 done, 1 the gate said no or short, 10 waiting; a signal is 128 + its number."""
        if self.status == "interrupted":
            return 128 + (self.signal or 2)
        return EXIT_CODES.get(self.status, 70)

    def as_json(self) -> dict[str, Any]:
        """The object of design §8."""
        entries = [entry for unit in self.all_units for entry in unit.entries]
        calls = {
            key: sum(e.calls.get(key, 0) for e in entries)
            for key in ("asked", "replayed", "reused")
        }
        cost = self.spent.settled.total()
        rows = self._count_rows()
        accepted = rows[State.ACCEPTED]
        return {
            "run": self.run,
            "status": self.status,
            "reason": self.reason,
            "iterations": [iteration.as_json() for iteration in self.iterations],
            "rows": rows,
            "calls": calls,
            "cost_usd": cost / NANO,
            "at_risk_usd": self.spent.at_risk.total() / NANO,
            "cost_usd_by_role": {
                role: nano / NANO for role, nano in sorted(self.spent.settled.items()) if nano
            },
            "usd_per_accepted_row": cost / NANO / accepted if accepted else None,
            "unpriced": list(self.unpriced),
            **self.results,
            "phases": {name: round(seconds, 2) for name, seconds in self.phases.items()},
            "wall_s": round(self.wall_s, 2),
        }

    def _count_rows(self) -> dict[str, int]:
        """Rows by state; what a pilot accepted beyond the wanted number is surplus."""
        rows = {str(state): sum(u.count(state) for u in self.units) for state in State}
        if self.wanted is not None:
            beyond = max(0, rows[State.ACCEPTED] - self.wanted)
            rows[State.ACCEPTED] -= beyond
            rows[State.SURPLUS] += beyond
        return rows

    @property
    def all_units(self) -> tuple[Unit, ...]:
        """Every unit that asked for calls: iterations that failed too."""
        piloted = tuple(iteration.unit for iteration in self.iterations)
        return piloted + tuple(unit for unit in self.units if unit not in piloted)


class Stop(Exception):  # noqa: N818 - ends a run, and is no error
    """A phase ended the run with a status that is no error."""

    def __init__(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


async def run_campaign(context: Context, phases: Sequence[str] = PHASES) -> Outcome:
    """Run the given phases in order; what an earlier process finished is kept and not done again."""
    scale, started = context.plan.pipeline.scale, time.perf_counter()
    outcome = Outcome(context.run.id, wanted=scale.accepted if scale else None)
    try:
        async with context.dispatch:
            try:
                if context.reused:
                    context.announcer.announce(await foresee(context))
                await _run_phases(context, outcome, phases)
            finally:
                await context.plan.models.aclose()
    except Stop as stop:
        outcome.status, outcome.reason = stop.status, stop.reason
    except RunInterrupted as interrupted:
        outcome.status, outcome.reason = "interrupted", str(interrupted)
        outcome.signal = interrupted.signal
    except BudgetError as error:
        outcome.status, outcome.reason = "budget", _name_run(error, context.run.id)
    except NexaError as error:
        context.announcer.announce(RunFinished("failed", error.exit_code, str(error)))
        raise
    outcome.wall_s = time.perf_counter() - started
    budget = context.dispatch.budget
    outcome.spent = Spent(budget.settled, budget.at_risk)
    outcome.unpriced = find_unpriced(context.plan)
    context.announcer.announce(RunFinished(outcome.status, outcome.exit_code, outcome.reason))
    return outcome


def _name_run(error: BudgetError, run: str) -> str:
    return f"{error.problem} {error.fix}".replace("RUN", run)


async def _run_phases(context: Context, outcome: Outcome, phases: Sequence[str]) -> None:
    pipeline = context.plan.pipeline
    passed: Iteration | None = None
    if "pilot" in phases and (context.plan.gate is not None or pipeline.scale is None):
        with _phase(context, outcome, "pilot"):
            with context.dispatch.budget.piloting():
                outcome.iterations = await run_pilot(context)
            passed = outcome.iterations[-1]
            outcome.units = (passed.unit,)
        _require_pass(passed)
    if "scale" in phases and pipeline.scale is not None:
        with _phase(context, outcome, "scale"):
            if passed is not None:
                foretell_duplicates(context, passed.plan, passed.unit)
            scaled = await run_scale(context, passed)
            outcome.units = scaled.units
            _require_scale(context, scaled)
    if not sum(unit.count(State.ACCEPTED) for unit in outcome.units):
        return
    if "package" in phases and pipeline.package is not None:
        with _phase(context, outcome, "package"):
            judged = await _off_loop(lambda: judge_dataset(context, outcome.units))
            if judged is not None:
                _require_decision(judged.as_json())
            outcome.results |= await _off_loop(lambda: package_run(context, outcome.units))
    if "train" in phases and pipeline.train is not None:
        with _phase(context, outcome, "train"):
            outcome.results |= await _off_loop(lambda: train_run(context))
        _require_decision(outcome.results["training"])
    if "evaluate" in phases and pipeline.evaluate is not None:
        with _phase(context, outcome, "evaluate"):
            outcome.results |= await evaluate_run(context)
        _require_decision(outcome.results["evaluation"])


async def _off_loop(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def _require_pass(iteration: Iteration) -> None:
    judged = iteration.judged
    if judged.waiting:
        raise Stop("waiting", judged.reason)
    if judged.decision is not Decision.PROCEED:
        raise Stop("stopped", judged.reason)


def _require_decision(result: Mapping[str, Any]) -> None:
    """End the run where the gate of a later phase, or a person, decided STOP."""
    if result.get("decision") == Decision.STOP:
        raise Stop("stopped", result["reason"])


def _require_scale(context: Context, scaled: Scaled) -> None:
    if scaled.halt is not None and scaled.halt.waiting:
        raise Stop("waiting", scaled.halt.reason)
    verdict = judge_scale(context, scaled.unit.plan, scaled.units)
    if verdict is not None:
        raise Stop("stopped", verdict)
    if scaled.halt is not None:
        raise Stop("stopped", scaled.halt.reason)
    if scaled.short is not None and not context.allow_short:
        raise Stop("short", scaled.short)


@contextmanager
def _phase(context: Context, outcome: Outcome, name: str) -> Iterator[None]:
    context.stop.check()
    context.announcer.announce(PhaseStarted(name))
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        outcome.phases[name] = seconds
    context.announcer.announce(PhaseFinished(name, round(seconds, 3)))
