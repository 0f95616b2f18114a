"""Machine time: a local model's work is paid by the hour, and what was paid for is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_core.engine import machine
from nexa_core.engine.budget import NANO, Budget
from nexa_core.engine.calls import Calls
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.requests import Subject
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import BudgetError
from nexa_core.pipeline import Role
from nexa_core.records import Request
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.money import journal_money
from nexa_core.testing.models import ScriptedModel


async def test_a_batch_in_which_the_money_ends_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that has begun is finished, journaled with its cost, and only then the run ends."""
    monkeypatch.setattr(machine, "BLOCK_SECONDS", 0.04)
    role = Role(model="local/x", usd_per_hour=3600.0)  # a dollar a second
    caller = Caller("s", "r", (Line(ScriptedModel(lambda r: "x", None, 4, seconds=0.05), role),))
    budget, journal = Budget(NANO // 10), Journal.open(tmp_path, "00000")
    requests = [Request(f"{n:024x}", "p") for n in range(4)]
    with pytest.raises(BudgetError):
        await Calls(Dispatch(budget), journal).complete(
            caller, requests, [Subject(r.id, r.id, 0, 0) for r in requests]
        )
    journal.close()
    found = read_journal(tmp_path, "00000")
    assert set(found.replies) == {request.id for request in requests}
    assert journal_money(found).total == budget.settled.total() > NANO // 10


async def test_every_batch_that_was_computed_is_counted() -> None:
    """An equal row in a later batch is computed again: what is booked for the shard is what was paid."""
    role = Role(model="local/x", usd_per_hour=3600.0)
    caller = Caller("s", "r", (Line(ScriptedModel(lambda r: "x", None, 2, seconds=0.02), role),))
    calls = Calls(Dispatch(Budget()))
    same = Request("a" * 24, "p")
    for other in ("b", "c"):
        requests = [same, Request(other * 24, "p")]
        await calls.complete(caller, requests, [Subject(r.id, r.id, 0, 0) for r in requests])
    assert calls.spent.settled.total() == calls.dispatch.budget.settled.total() > 0
