"""The event loop of a run, with the interpreter set so that nothing keeps it waiting for long."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")

COLLECT_AFTER = (20_000, 20, 50)
"""Objects, and younger collections, after which Python looks for cycles. Requests and replies have
none: with the default of 700 objects a thousand rows are walked through again and again, for 7 % of
a run's time and up to 0.1 s at once."""
SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter. The loop lets go of it at every write, and with the
default of 5 ms a thread that commits a shard would hold up each of them by as much."""


def run_evenly(work: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on uvloop, where there is one: a sixth less CPU per call than asyncio's own."""
    with _attentive(), asyncio.Runner(loop_factory=_find_loop()) as runner:
        return runner.run(work)


def _find_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


@contextmanager
def _attentive() -> Iterator[None]:
    """Few looks for cycles, none at what is there now, short turns; afterwards all is as it was."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(*(max(pair) for pair in zip(threshold, COLLECT_AFTER, strict=True)))
    gc.freeze()
    sys.setswitchinterval(min(interval, SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        gc.set_threshold(*threshold)


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
