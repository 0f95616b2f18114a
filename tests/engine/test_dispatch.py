"""One call until it is answered or given up: tries, journal, money and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from nexa_core.engine import admission, dispatch
from nexa_core.engine.budget import Budget
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Answer, Caller, Line
from nexa_core.errors import BudgetError, CallFailed, Charge, Failure, ModelError
from nexa_core.pipeline import Role
from nexa_core.records import Completion, Request, Usage
from nexa_core.testing.models import ScriptedModel, ScriptedRemote

PRICE = {"input": 1.0, "output": 2.0}


class Notes:
    """A journal in memory."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, dict[str, Any]]] = []

    def intend(self, call_id: str, **fields: Any) -> None:
        self.frames.append(("intent", fields))

    def reply(self, call_id: str, **fields: Any) -> None:
        self.frames.append(("reply", fields))

    def fail(self, call_id: str, **fields: Any) -> None:
        self.frames.append(("fail", fields))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.frames]


def scripted(*replies: Any) -> Callable[[Request], Any]:
    """One reply after the other; the last one for ever."""
    left: Iterator[Any] = iter(replies[:-1])
    return lambda _: next(left, replies[-1])


def caller(*models: ScriptedModel, **role: Any) -> Caller:
    settings = Role(model="openai/m", price=PRICE, **role)
    return Caller("answer", "teacher", tuple(Line(m, settings, rates(settings)) for m in models))


def rates(role: Role) -> Any:
    from nexa_core.prices import rates_of

    return rates_of(role)


async def send(
    sender: Dispatch, who: Caller, notes: Notes | None = None, max_tokens: int = 100
) -> Answer:
    async def ask(model: Any, request: Request) -> Completion:
        reply: Completion = await model.complete(request)
        return reply

    request = Request("c1", "four", {"max_tokens": max_tokens})
    async with sender:
        return await sender.send(who, request, notes, ask)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKOFF_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(admission, "BREAKER_SECONDS", (0.01, 0.02))


OVERLOAD = CallFailed(Failure.OVERLOAD, "busy", status=503)


async def test_every_try_has_its_own_intent() -> None:
    """Two failures and a reply: three intents, each with its end, and the classes of what failed."""
    notes = Notes()
    model = ScriptedRemote(scripted(OVERLOAD, OVERLOAD, "yes"))
    answer = await send(Dispatch(), caller(model), notes)
    assert notes.kinds == ["intent", "fail", "intent", "fail", "intent", "reply"]
    assert (answer.tries, answer.failures) == (3, ["overload", "overload"])


@pytest.mark.parametrize("failure", [f for f in Failure if not f.may_pass])
async def test_what_cannot_pass_is_tried_once(failure: Failure) -> None:
    """A refused request is this row's failure, and costs nothing more."""
    model = ScriptedRemote(scripted(CallFailed(failure, "no")))
    answer = await send(Dispatch(), caller(model))
    assert (answer.reply, len(model.asked)) == (None, 1)
    assert str(failure) in str(answer.error)


async def test_tries_end() -> None:
    """An endpoint that never answers costs a call its six tries."""
    model = ScriptedRemote(scripted(CallFailed(Failure.BAD_REPLY, "no JSON", raw="<html>")))
    answer = await send(Dispatch(), caller(model))
    assert (answer.tries, len(model.asked)) == (dispatch.MOST_TRIES, dispatch.MOST_TRIES)


async def test_a_raw_reply_is_journaled_though_nobody_can_read_it() -> None:
    """The body is on disk before anything else is done with it."""
    notes = Notes()
    bad = CallFailed(Failure.BAD_REPLY, "no JSON", raw="<html>")
    await send(Dispatch(), caller(ScriptedRemote(scripted(bad, "yes"))), notes)
    assert notes.frames[1][1]["raw"] == "<html>"


async def test_a_reply_settles_what_it_cost() -> None:
    """Four prompt tokens and ten of completion at one and two dollars a million."""
    budget = Budget(10**9)
    reply = Completion("x", usage=Usage(4, 10))
    answer = await send(Dispatch(budget), caller(ScriptedRemote(scripted(reply))))
    assert answer.cost_nano == budget.settled["teacher"] == 4_000 + 20_000
    assert budget.reserved == 0


async def test_the_billed_price_goes_before_the_computed() -> None:
    """A reply that states its price is settled by it."""
    budget = Budget(10**9)
    reply = Completion("x", usage=Usage(4, 10, cost_nano=777))
    await send(Dispatch(budget), caller(ScriptedRemote(scripted(reply))))
    assert budget.settled["teacher"] == 777


async def test_a_reply_lost_on_the_way_is_at_risk() -> None:
    """A timeout may have been paid for; a refused connection was not."""
    budget = Budget(10**9)
    late = CallFailed(Failure.TIMEOUT, "no reply within 120 s", Charge.UNKNOWN)
    unreached = CallFailed(Failure.CONNECTION, "refused")
    who = caller(ScriptedRemote(scripted(late, unreached, "yes")))
    answer = await send(Dispatch(budget), who)
    assert budget.at_risk["teacher"] == answer.at_risk_nano == 4 * 1_000 + 100 * 2_000


async def test_what_the_budget_cannot_hold_is_not_asked() -> None:
    """One call may cost more than the cap: it never goes out."""
    model = ScriptedRemote()
    with pytest.raises(BudgetError, match="next request may cost"):
        await send(Dispatch(Budget(1_000)), caller(model))
    assert model.asked == []


async def test_a_fatal_error_ends_every_wait() -> None:
    """After a refused key nothing new goes out, and nobody waits for a place."""
    sender = Dispatch()
    model = ScriptedRemote(scripted(ModelError("The key is refused.")), seconds=0.01)
    who = caller(model, concurrency=2)
    found = await asyncio.gather(*(send(sender, who) for _ in range(8)), return_exceptions=True)
    assert {type(each) for each in found} == {ModelError}
    assert len(model.asked) == 2


async def test_another_model_takes_over_when_the_breaker_is_open() -> None:
    """Twelve failures in a row, and the fallback answers; the call says which."""
    sender = Dispatch()
    dead = ScriptedRemote(scripted(OVERLOAD), name="dead", endpoint="a")
    alive = ScriptedRemote(scripted("yes"), name="alive", endpoint="b")
    for _ in range(2):
        await send(sender, caller(dead))
    answer = await send(sender, caller(dead, alive))
    assert (answer.model, answer.reply.text) == ("alive", "yes")


@pytest.mark.parametrize("mistake", [ValueError("a plugin's"), ModelError("The key is refused.")])
async def test_only_an_answer_closes_the_breaker(mistake: Exception) -> None:
    """Neither a plugin's own mistake nor a refused key says that a failing endpoint is well."""
    sender = Dispatch()
    failures = admission.BREAKER_FAILURES
    who = caller(ScriptedRemote(scripted(*[OVERLOAD] * failures, mistake)))
    for _ in range(2):
        await send(sender, who)
    gate = sender.admissions[who.lines[0].address]
    with suppress(ModelError):
        await send(sender, who)
    assert gate.down_seconds > 0
    assert gate.under_way == 0


async def test_an_endpoint_that_stays_dead_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends with a sentence that says what is kept and what would help."""
    monkeypatch.setattr(dispatch, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(ModelError, match="nothing but failures") as error:
        await send(Dispatch(), caller(ScriptedRemote(scripted(OVERLOAD))))
    assert "fallbacks" in error.value.fix


async def test_one_that_only_refuses_ends_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 is no failure of the call, and a quarter of an hour of nothing else is one of the run."""
    monkeypatch.setattr(dispatch, "LONG_PATIENCE_SECONDS", 0.0)
    limited = CallFailed(Failure.RATE_LIMIT, "slow down", status=429)
    with pytest.raises(ModelError, match="nothing but failures"):
        await send(Dispatch(), caller(ScriptedRemote(scripted(limited))))


async def test_waiting_for_a_place_is_no_request_time() -> None:
    """The second of two calls through one place takes as long as the first."""
    sender = Dispatch()
    who = caller(ScriptedRemote(seconds=0.05), concurrency=1)
    answers = await asyncio.gather(*(send(sender, who) for _ in range(3)))
    assert max(answer.seconds for answer in answers) < 0.09


async def test_who_waits_at_a_dead_endpoint_goes_to_the_next() -> None:
    """Forty calls before two places: once the breaker opens, the others do not wait it out."""
    sender = Dispatch()
    dead = ScriptedRemote(scripted(OVERLOAD), name="dead", endpoint="a", seconds=0.001)
    alive = ScriptedRemote(scripted("yes"), name="alive", endpoint="b")
    who = caller(dead, alive, concurrency=4)
    admission.BREAKER_SECONDS = (60.0, 60.0)  # restored by the fixture
    answers = await asyncio.wait_for(
        asyncio.gather(*(send(sender, who) for _ in range(40))), timeout=5
    )
    assert {answer.model for answer in answers} == {"alive"}
    assert len(dead.asked) < 20


async def test_patience_lasts_while_another_endpoint_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dead first endpoint is no end of the run where its fallback serves."""
    monkeypatch.setattr(dispatch, "PATIENCE_SECONDS", 0.0)
    sender = Dispatch()
    dead = ScriptedRemote(scripted(OVERLOAD), name="dead", endpoint="a")
    alive = ScriptedRemote(scripted("yes"), name="alive", endpoint="b")
    answers = [await send(sender, caller(dead, alive)) for _ in range(6)]
    assert answers[-1].model == "alive"


async def test_tries_that_reach_nobody_do_not_count() -> None:
    """A server that starts again is waited for: no call gives up on a refused connection."""
    unreached = CallFailed(Failure.CONNECTION, "no connection: refused")
    model = ScriptedRemote(scripted(*[unreached] * 10, "yes"))
    answer = await send(Dispatch(), caller(model))
    assert (answer.reply.text, answer.tries) == ("yes", 11)


async def test_time_in_which_nobody_asked_tries_nobodys_patience() -> None:
    """After an hour of training, one refusal for the rate is a refusal and not the end of the run."""
    refusal = CallFailed(Failure.RATE_LIMIT, "slow down", status=429)
    sender, model = Dispatch(), ScriptedRemote(scripted("yes", refusal, "yes"))
    who = caller(model)
    await send(sender, who)
    for gate in sender.admissions.values():
        gate._answered_at -= 3600
    answer = await send(sender, who)
    assert (answer.failures, answer.error) == (["rate_limit"], None)
