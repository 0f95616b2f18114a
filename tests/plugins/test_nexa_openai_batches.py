"""OpenAI's batches: a file, a nonce that finds them again, and what became of each request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from nexa_core import BatchModel, CallFailed, Charge, Completion, Request, Role
from nexa_openai.model import build_model


@pytest.fixture
def batch_model(loopback: Any) -> Any:
    """A model whose endpoint takes batches."""
    return build_model(Role(model="openai/m", base_url=loopback.url, batch=True))


def line(request_id: str, status: int = 200, **body: Any) -> str:
    answer = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]} | body
    response = {"status_code": status, "body": answer}
    return json.dumps({"custom_id": request_id, "response": response, "error": None})


def undone(request_id: str) -> str:
    error = {"code": "batch_expired", "message": "not in time"}
    return json.dumps({"custom_id": request_id, "response": None, "error": error})


def text_of(*lines: str) -> Any:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text="\n".join(lines) + "\n")

    return handler


async def test_a_batch_is_a_file_with_a_nonce(loopback: Any, batch_model: Any) -> None:
    """Each line has the request's id and the body that a single call would have sent."""
    loopback.answers["POST /v1/files"] = {"id": "f1"}
    loopback.answers["POST /v1/batches"] = {"id": "b1", "status": "validating"}
    requests = [Request(f"r{number}", "hello", {"max_tokens": 9}) for number in range(2)]
    state = await batch_model.create_batch(requests, "nonce-1")
    await batch_model.aclose()
    assert (state.id, state.status) == ("b1", "running") and isinstance(batch_model, BatchModel)
    form, order = loopback.bodies
    lines = [json.loads(one) for one in form.splitlines() if one.startswith('{"custom_id"')]
    assert [one["custom_id"] for one in lines] == ["r0", "r1"]
    assert lines[0]["body"] == batch_model._writer.build(requests[0])
    assert order["metadata"] == {"nexa_nonce": "nonce-1"} and order["input_file_id"] == "f1"
    assert sum(map(batch_model.measure, requests)) == sum(
        len(one) + 1 for one in form.splitlines() if one.startswith('{"custom_id"')
    )


async def test_a_lost_batch_is_found_by_its_nonce(loopback: Any, batch_model: Any) -> None:
    """Page by page, newest first; None says that it was never started."""

    async def pages(request: web.Request) -> web.StreamResponse:
        after = request.query.get("after")
        number = int(after[1:]) if after else 0
        batch = {
            "id": f"b{number + 1}",
            "status": "completed",
            "metadata": {"nexa_nonce": str(number)},
        }
        return web.json_response({"data": [batch], "has_more": number < 3})

    loopback.answers["GET /v1/batches"] = pages
    found, absent = await batch_model.find_batch("2"), await batch_model.find_batch("absent")
    await batch_model.aclose()
    assert (found.id, found.status) == ("b3", "done") and absent is None


async def test_finished_work_of_an_expired_batch_counts(loopback: Any, batch_model: Any) -> None:
    """Answers, refusals and what was not done in time, each by its request; the first line counts."""
    batch = {"id": "b", "status": "expired", "output_file_id": "o", "error_file_id": "e"}
    counts = {"total": 4, "completed": 1, "failed": 1}
    loopback.answers["GET /v1/batches/b"] = batch | {"request_counts": counts}
    loopback.answers["GET /v1/files/o/content"] = text_of(line("r1"), line("r1", 500), "{cut")
    loopback.answers["GET /v1/files/e/content"] = text_of(undone("r2"), line("r3", 400))
    state, results = await batch_model.poll_batch("b"), await batch_model.fetch_batch("b")
    await batch_model.aclose()
    assert (state.status, state.requests, state.answered) == ("expired", 4, 2)
    assert isinstance(results["r1"], Completion) and results["r1"].text == "yes"
    assert isinstance(results["r2"], CallFailed) and results["r2"].failure.may_pass
    assert results["r2"].charge == Charge.NONE and results["r3"].status == 400
    assert set(results) == {"r1", "r2", "r3"}


async def test_a_failed_batch_says_why(loopback: Any, batch_model: Any) -> None:
    """In the provider's words."""
    errors = {"data": [{"message": "line 3 has no model"}]}
    loopback.answers["GET /v1/batches/b"] = {"id": "b", "status": "failed", "errors": errors}
    state = await batch_model.poll_batch("b")
    await batch_model.aclose()
    assert (state.status, state.reason) == ("failed", "line 3 has no model")
