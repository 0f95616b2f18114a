"""A real HTTP server on loopback for tests of model providers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Loopback:
    """A server in a thread of its own; `answers` maps "METHOD /path" to JSON or to a handler."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    anything: Any = None
    """What answers where `answers` has nothing."""

    @property
    def bodies(self) -> list[Any]:
        return [body for _, body, _ in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        json_sent = request.content_type == "application/json" and request.can_read_body
        body = await request.json() if json_sent else await request.text()
        line = f"{request.method} {request.path}"
        self.asked.append((line, body, dict(request.headers)))
        answer = self.answers.get(line, self.anything)
        if answer is None:
            return web.json_response({"error": {"message": f"no {line}"}}, status=404)
        return await answer(request) if callable(answer) else web.json_response(answer)


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A running server whose answers the test sets."""
    server, loop = Loopback(), asyncio.new_event_loop()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    server.url = f"http://127.0.0.1:{loop.run_until_complete(start())}/v1"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
