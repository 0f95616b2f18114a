"""The chaos server in the running event loop: opened, changed while it serves, closed."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from nexa_core.testing.chaos.capacity import Capacity
from nexa_core.testing.chaos.faults import Faults
from nexa_core.testing.chaos.record import Log, Stats
from nexa_core.testing.chaos.service import Service
from nexa_core.testing.chaos.settings import Settings
from nexa_core.testing.chaos.wire import Connection

__all__ = ["ChaosServer"]


class ChaosServer:
    """A chaos server on loopback, for the time of an `async with` block.

    Example:
        async with ChaosServer(Settings(faults=Faults.storm(), latency=0.05)) as server:
            ...  # ask server.url, which ends in /v1
            server.capacity = 10
        assert server.stats.bill_nano < 1_000_000_000
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._log = Log(self.settings.log_path)
        self._members: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._service: Service | None = None
        self._origin = ""

    @property
    def url(self) -> str:
        """What a client takes as its base URL."""
        return f"{self._origin}/v1"

    @property
    def control_url(self) -> str:
        """Where `GET` tells the sums and `POST` changes settings."""
        return f"{self._origin}/_chaos"

    @property
    def stats(self) -> Stats:
        """The sums of the log as they are now."""
        self._catch_up()
        if self._service is not None:
            self._service.tell_stats()
        return self._log.stats

    @property
    def log(self) -> Log:
        """Every request whose reply has ended."""
        self._catch_up()
        return self._log

    @property
    def capacity(self) -> Capacity:
        return self.settings.capacity

    @capacity.setter
    def capacity(self, capacity: Capacity | int | None) -> None:
        changed = asdict(capacity) if isinstance(capacity, Capacity) else capacity
        self.change(capacity=changed)

    @property
    def faults(self) -> Faults:
        return self.settings.faults

    @faults.setter
    def faults(self, faults: Faults | str) -> None:
        self.change(faults=asdict(faults) if isinstance(faults, Faults) else faults)

    def change(self, **changes: Any) -> None:
        """Change settings while it serves, from any thread; `Settings.changed` says which.

        Raises:
            ValueError: a name or a value is none that can change.
        """
        self.settings = self.settings.changed(changes)
        if self._service is not None:
            self._service.loop.call_soon_threadsafe(self._service.apply, self.settings)

    def _catch_up(self) -> None:
        """From another thread, wait until the loop has logged what it has just sent."""
        loop = self._service.loop if self._service is not None else None
        if loop is not None and loop.is_running() and _current_loop() is not loop:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

    async def start(self) -> None:
        """Listen; from here on `url` is known."""
        loop = asyncio.get_running_loop()
        service = Service(self.settings, self._log, loop)
        self._server = await loop.create_server(
            lambda: Connection(service.serve, self._members),
            self.settings.host,
            self.settings.port,
            backlog=4096,
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        self._origin = service.origin = f"http://{host}:{port}"
        self._service = service

    async def close(self) -> None:
        """Stop listening, break what is under way, and write the log."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._members):
            connection.close()
        await asyncio.sleep(0)  # lets broken connections reach the log
        if self._service is not None:
            await self._service.close()
        self._log.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _current_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
