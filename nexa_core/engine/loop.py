"""The event loop of a run: it takes replies in small lots, so that nothing waits for a whole burst."""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

MOST_EVENTS = 64
"""Sockets served in one round of the loop; at 0.3 ms each, timers and admission come every 20 ms."""


class EvenSelector(selectors.DefaultSelector):
    """Gives at most `MOST_EVENTS` of what is ready; the rest is still ready the next time.

    With two thousand replies ready at once, a loop that takes them all is deaf for half a second.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)[:MOST_EVENTS]


def run_evenly(work: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on such a loop."""
    if sys.platform == "win32":
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(EvenSelector())) as runner:
        return runner.run(work)
