"""Asks the gate's reviewers: their calls are journaled, paid for and reused like all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_core.engine.calls import Calls
from nexa_core.engine.context import Context
from nexa_core.engine.plan import Plan
from nexa_core.engine.requests import Subject
from nexa_core.engine.seating import build_reviewer, roles_of_reviewer, sampling_of_roles
from nexa_core.engine.steps.judge import Prompt, RowAsker
from nexa_core.engine.tries import Caller
from nexa_core.errors import CallFailed, NexaError, PluginError, boundary
from nexa_core.gates import Gate, ReviewerUse, Ruling, conclude
from nexa_core.marking import derive_nonce
from nexa_core.protocols import Asker
from nexa_core.records import Completion, Decision, Evidence, Opinion
from nexa_core.reviews.asks import describe_ask
from nexa_core.store import journal as journals
from nexa_core.store.files import make_folder

__all__ = ["Consulted", "consult"]

STEP = "review"


@dataclass
class Consulted:
    """What the reviewers said, what they asked models for that (in order), and what it cost."""

    opinions: list[Opinion] = field(default_factory=list)
    asks: list[dict[str, Any]] = field(default_factory=list)
    cost_nano: int = 0


@dataclass
class ReviewAsker(RowAsker):
    """Asks for one reviewer, and notes every ask by its role and number for the record."""

    noted: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    async def complete(
        self, prompt: Prompt, role: str | None = None, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """A completion; raises CallFailed where there is none."""
        name = role or next(iter(self.roles), "")
        if name not in self.callers:
            raise PluginError(
                f"A reviewer asks the role '{name}', which is not its own.",
                "A reviewer's option `model` names the role it may ask.",
            )
        number = self.asked[name]
        try:
            reply = await super().complete(prompt, name, schema)
        except CallFailed as error:
            self.noted[name, number] = describe_ask(name, number, prompt, None, str(error))
            raise
        outcome = next(one for one in self.outcomes if one.reply is reply)
        found = describe_ask(name, number, prompt, reply, None, outcome.model, outcome.call_id)
        self.noted[name, number] = found
        return reply

    async def choose(self, prompt: Prompt, options: Sequence[str], role: str | None = None) -> Any:
        """Not for reviewers: what they decide on must be readable in the record."""
        raise PluginError("A reviewer asks for completions only.", "Use ask.complete.")


async def consult(
    context: Context,
    plan: Plan,
    gate: Gate,
    ruling: Ruling,
    evidence: Evidence,
    folder: Path,
    rows: int,
) -> Consulted:
    """Opinions in the gate's order; after the first patch that is made nobody else is asked.

    `folder` is where replies are journaled, so that a killed review is
    taken up again and asks nothing twice. `rows` tells its looks apart.
    """
    found = Consulted()
    if ruling.decision not in (Decision.ITERATE, Decision.PROCEED):
        return found
    for position, use in enumerate(gate.reviewers):
        name = f"{rows:06d}-{position}-{use.name}"
        await _ask(context, plan, use, evidence, folder, name, rows, found)
        concluded = conclude(ruling, found.opinions, evidence)
        if ruling.decision is Decision.ITERATE and concluded.changes and not concluded.waiting:
            break
    return found


async def _ask(
    context: Context,
    plan: Plan,
    use: ReviewerUse,
    evidence: Evidence,
    folder: Path,
    name: str,
    rows: int,
    found: Consulted,
) -> None:
    reviewer = build_reviewer(plan, use)
    roles = roles_of_reviewer(plan, use)
    position = len(found.opinions)
    if not roles:
        found.opinions.append(await _review(use, reviewer, evidence, _no_asker(plan)))
        return
    make_folder(folder)
    before = journals.read_journal(folder, name, context.salvage)
    journal = journals.Journal.open(folder, name)
    calls = Calls(context.dispatch, journal, before.replies, before.intents, context.reused)
    callers = {role: Caller(STEP, role, plan.lines(role)) for role in roles}
    subject = Subject("", f"review/{use.name}/{rows}", evidence.iteration, 0)
    nonce = derive_nonce(plan.pipeline.seed, evidence.iteration, rows, use.name)
    sampling = sampling_of_roles(plan, roles)
    asker = ReviewAsker(calls, callers, sampling, subject, plan.pipeline.seed, nonce)
    try:
        found.opinions.append(await _review(use, reviewer, evidence, asker))
    finally:
        await calls.drain()
        journal.close()
    noted = [asker.noted[key] for key in sorted(asker.noted)]
    found.asks += [{"opinion": position, "nonce": nonce, **ask} for ask in noted]
    found.cost_nano += sum(call.cost_nano for call in calls.records)


def _no_asker(plan: Plan) -> ReviewAsker:
    return ReviewAsker(Calls(), {}, {}, Subject("", "review", 0, 0), plan.pipeline.seed, "")


async def _review(use: ReviewerUse, reviewer: Any, evidence: Evidence, ask: Asker) -> Opinion:
    """The reviewer's opinion; a call that ends the run does so under its own name."""
    try:
        with boundary(PluginError, f"The reviewer '{use.name}'"):
            opinion: Opinion = await reviewer.review(evidence, ask)
    except PluginError as error:
        if isinstance(error.__cause__, NexaError):
            raise error.__cause__ from None
        raise
    return opinion
