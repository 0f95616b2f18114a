"""The event loop of a run: it takes replies in small lots, so that nothing waits for a whole burst."""

from __future__ import annotations

import asyncio
import gc
import selectors
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")

MOST_EVENTS = 64
"""Sockets served in one round of the loop; at 0.3 ms each, timers and admission come every 20 ms."""


COLLECT_AFTER = (20_000, 20, 50)
"""Objects, and younger collections, after which Python looks for cycles. Requests and replies have
none: with the default of 700 objects a thousand rows are walked through again and again, for 7 % of
a run's time and up to 0.1 s at once."""


class EvenSelector(selectors.DefaultSelector):
    """Gives at most `MOST_EVENTS` of what is ready; the rest is still ready the next time.

    With two thousand replies ready at once, a loop that takes them all is deaf for half a second.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)[:MOST_EVENTS]


def run_evenly(work: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on such a loop, with few looks for cycles meanwhile."""
    make_loop = None if sys.platform == "win32" else _make_loop
    with _seldom_collecting(), asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(work)


def _make_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(EvenSelector())


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """What is there now is not walked through again; afterwards all is as it was."""
    before = gc.get_threshold()
    gc.set_threshold(*(max(pair) for pair in zip(before, COLLECT_AFTER, strict=True)))
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def run_async(work: Any) -> Any:
    """Run a coroutine to its end, also where an event loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_evenly(work)
    result: dict[str, Any] = {}

    def body() -> None:
        try:
            result["value"] = run_evenly(work)
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=body, name="nexa-run")
    thread.start()
    thread.join()
    if "error" in result:
        raise result["error"]
    return result["value"]
