"""The thin client against the chaos server: whatever goes wrong is typed, and never called free."""

from __future__ import annotations

import asyncio

import pytest

from nexa_core import BatchModel, CallFailed, Charge, Completion, ModelError, Request, Role
from nexa_core.testing.chaos import Faults, Settings, serve_in_thread
from nexa_core.testing.chaos.faults import TRY, UNBILLED
from nexa_openai.model import build_model

ANSWERED = {"slow_first_byte", "slow_drip", "gzip"}


@pytest.mark.parametrize("fault", TRY)
async def test_a_fault_is_a_failed_try_that_may_have_cost(fault: str) -> None:
    """One request, one typed failure; free only where the server bills nothing."""
    settings = Settings(faults=Faults.only(fault), slow_seconds=0.05)
    with serve_in_thread(settings) as server:
        model = build_model(Role(model="openai/m", base_url=server.url, timeout=0.2))
        (result,) = await asyncio.gather(
            model.complete(Request("id", "hello")), return_exceptions=True
        )
        await model.aclose()
    if fault in ANSWERED:
        assert isinstance(result, Completion) and len(result.text) > 100
    elif fault == "redirect":
        assert isinstance(result, ModelError)
    else:
        assert isinstance(result, CallFailed) and result.failure.may_pass
        assert (result.charge is Charge.NONE) == (fault in UNBILLED)


async def test_a_batch_comes_back_in_any_order() -> None:
    """Results out of order, failed, missing and twice are told apart by request."""
    faults = Faults(batch_shuffled=1, line_error=0.2, line_missing=0.2, line_duplicate=0.2)
    requests = [Request(f"r{number}", f"question {number}") for number in range(60)]
    with serve_in_thread(Settings(faults=faults)) as server:
        model = build_model(Role(model="openai/m", base_url=server.url, batch=True))
        assert isinstance(model, BatchModel) and await model.find_batch("nonce") is None
        made = await model.create_batch(requests, "nonce")
        found = await model.find_batch("nonce")
        assert found is not None and found.id == made.id
        results = await model.fetch_batch(made.id)
        await model.aclose()
    kinds = [type(results.get(request.id)) for request in requests]
    assert {Completion, CallFailed, type(None)} == set(kinds)
    texts = [one.text for one in results.values() if isinstance(one, Completion)]
    assert len(set(texts)) == len(texts) > 20


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_options_are_chosen_among(api: str) -> None:
    """Log-probabilities of both labels, whichever API tells them."""
    with serve_in_thread(Settings()) as server:
        model = build_model(Role(model="vllm/m", base_url=server.url, api=api))
        choice = await model.choose(Request("id", "A or B?"), (" A", " B"))
        await model.aclose()
    assert len(set(choice.logprobs)) == 2 and all(value <= 0 for value in choice.logprobs)


def test_preflight_knows_the_chaos_server() -> None:
    """Key and model are looked at before anything is asked."""
    with serve_in_thread(Settings(key="good", models=("m",))) as server:
        faults = build_model(Role(model="openai/x", base_url=server.url)).preflight({})
    assert len(faults) == 1 and "wants one" in faults[0]
