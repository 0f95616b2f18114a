"""Batches of the chaos server: uploaded, worked on, handed out, found again, and their faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from nexa_core.testing.chaos import ChaosServer, Faults, Settings


class Client:
    """The calls of OpenAI's batch API, as a client makes them."""

    def __init__(self, server: ChaosServer, session: aiohttp.ClientSession) -> None:
        self.url, self.session = server.url, session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as reply:
            return await reply.json(content_type=None)

    async def post(self, path: str, body: Any = None) -> Any:
        async with self.session.post(self.url + path, json=body) as reply:
            return await reply.json()

    async def create(self, count: int, **more: Any) -> dict[str, Any]:
        lines = [
            {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": body(n)}
            for n in range(count)
        ]
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        content = "\n".join(map(json.dumps, lines)).encode()
        form.add_field("file", content, filename="x.jsonl", content_type="application/jsonl")
        async with self.session.post(f"{self.url}/files", data=form) as reply:
            file_id = (await reply.json())["id"]
        made = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", **more}
        created: dict[str, Any] = await self.post("/batches", {"completion_window": "24h", **made})
        return created

    async def results(self, batch: dict[str, Any], kind: str = "output") -> list[dict[str, Any]]:
        if batch[f"{kind}_file_id"] is None:
            return []
        url = f"{self.url}/files/{batch[f'{kind}_file_id']}/content"
        async with self.session.get(url) as reply:
            return [json.loads(line) for line in (await reply.text()).splitlines()]


def body(number: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": number}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client session."""
    async with aiohttp.ClientSession() as session:
        yield session


async def ended(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    while batch["status"] in ("validating", "in_progress", "cancelling"):
        await asyncio.sleep(0.02)
        batch = await client.get(f"/batches/{batch['id']}")
    return batch


async def test_a_batch_passes_through_its_states(session: aiohttp.ClientSession) -> None:
    """Validating, in progress, completed; every line has its answer at half the price."""
    async with ChaosServer(Settings(batch_seconds=0.3)) as server:
        client = Client(server, session)
        batch = await client.create(3, metadata={"nonce": "n1"})
        states = [batch["status"]]
        while batch["status"] != "completed":
            await asyncio.sleep(0.01)
            batch = await client.get(f"/batches/{batch['id']}")
            states.append(batch["status"])
        assert list(dict.fromkeys(states)) == ["validating", "in_progress", "completed"]
        results = await client.results(batch)
        assert [one["custom_id"] for one in results] == ["r0", "r1", "r2"]
        live = await client.post("/chat/completions", body(0))
        usage, prices = live["usage"], server.settings.prices
        whole = prices.cost(usage["prompt_tokens"], usage["completion_tokens"])
        assert {entry.bill for entry in server.log} >= {whole}
        assert min(entry.bill for entry in server.log) < whole * 0.8


async def test_batches_are_found_by_their_metadata(session: aiohttp.ClientSession) -> None:
    """The list comes newest first, in pages."""
    async with ChaosServer() as server:
        client = Client(server, session)
        made = [await client.create(1, metadata={"nonce": f"n{number}"}) for number in range(3)]
        page = await client.get("/batches?limit=2")
        assert [one["metadata"]["nonce"] for one in page["data"]] == ["n2", "n1"]
        assert page["has_more"]
        rest = await client.get(f"/batches?limit=2&after={page['last_id']}")
        assert [one["id"] for one in rest["data"]] == [made[0]["id"]] and not rest["has_more"]


async def test_an_expired_batch_holds_what_was_finished(session: aiohttp.ClientSession) -> None:
    """Half of the lines have answers, the others an error without a response."""
    async with ChaosServer(Settings(faults=Faults.only("batch_expired"))) as server:
        client = Client(server, session)
        batch = await ended(client, await client.create(10))
        assert batch["status"] == "expired"
        assert len(await client.results(batch)) == 5
        errors = await client.results(batch, "error")
        assert {one["error"]["code"] for one in errors} == {"batch_expired"} and len(errors) == 5


async def test_results_come_disordered_twice_and_not_at_all(session: aiohttp.ClientSession) -> None:
    """Shuffled, duplicated, missing and failed lines, each where its rate says so."""
    faults = Faults(batch_shuffled=1, line_duplicate=0.2, line_missing=0.2, line_error=0.2)
    async with ChaosServer(Settings(faults=faults)) as server:
        client = Client(server, session)
        batch = await ended(client, await client.create(60))
        good = [one["custom_id"] for one in await client.results(batch)]
        bad = [one["custom_id"] for one in await client.results(batch, "error")]
    assert len(good) > len(set(good)) and good != sorted(good, key=lambda name: int(name[1:]))
    assert bad and len(set(good) | set(bad)) < 60 and not set(good) & set(bad)


async def test_a_batch_may_fail_or_be_cancelled(session: aiohttp.ClientSession) -> None:
    """A failed one says why and has no files; a cancelled one stops."""
    async with ChaosServer(Settings(faults=Faults.only("batch_failed"))) as server:
        client = Client(server, session)
        batch = await client.create(2)
        assert batch["status"] == "failed" and batch["errors"]["data"]
    async with ChaosServer(Settings(batch_seconds=0.4)) as server:
        client = Client(server, session)
        batch = await client.create(2)
        await asyncio.sleep(0.05)
        assert (await client.post(f"/batches/{batch['id']}/cancel"))["status"] == "cancelling"
        assert (await ended(client, batch))["status"] == "cancelled"
