"""Chaos servers beside the caller: in a thread of its process, or in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nexa_core
from nexa_core.testing.chaos.record import Entry, Stats, read_log
from nexa_core.testing.chaos.server import ChaosServer
from nexa_core.testing.chaos.settings import Settings

__all__ = ["RemoteControl", "serve_in_process", "serve_in_thread"]


@contextmanager
def serve_in_thread(settings: Settings | None = None) -> Iterator[ChaosServer]:
    """A chaos server in a thread with a loop of its own, for code that is not asynchronous."""
    server, loop = ChaosServer(settings), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class RemoteControl:
    """The controls of a chaos server in another process."""

    def __init__(self, url: str, control_url: str, log_path: Path | None = None) -> None:
        self.url, self.control_url, self._log_path = url, control_url, log_path

    @property
    def stats(self) -> Stats:
        """The sums of its log as they are now; what is buffered of the log is written."""
        return self.change()

    @property
    def log(self) -> list[Entry]:
        """Every request so far."""
        if self._log_path is not None:
            self.change()
            return list(read_log(self._log_path))
        with urllib.request.urlopen(f"{self.control_url}/log", timeout=60) as reply:  # noqa: S310 - http, loopback
            return [Entry(**json.loads(line)) for line in reply.read().splitlines()]

    def change(self, **changes: Any) -> Stats:
        """Change settings while it serves, as `ChaosServer.change`; `faults` and `capacity` as JSON.

        Raises:
            ValueError: a name or a value is none that can change.
        """
        data = json.dumps(changes).encode()
        try:
            with urllib.request.urlopen(self.control_url, data, timeout=60) as reply:  # noqa: S310 - http, loopback
                return Stats(**json.load(reply))
        except urllib.error.HTTPError as refused:
            with refused:
                raise ValueError(json.load(refused)["error"]["message"]) from None


@contextmanager
def serve_in_process(settings: Settings | None = None) -> Iterator[RemoteControl]:
    """A chaos server in a process of its own, which ends with the block or with its caller."""
    settings = settings or Settings()
    command = [sys.executable, "-m", "nexa_core.testing.chaos", "--settings", "-"]
    home = str(Path(nexa_core.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": home if not known else f"{home}{os.pathsep}{known}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True) as process:  # noqa: S603 - our own module
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(settings.as_json()) + "\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        try:
            yield RemoteControl(told["url"], told["control_url"], settings.log_path)
        finally:
            process.stdin.close()  # its sign to write the log and end
            process.wait(30)
