"""`python -m nexa_core.testing.chaos`: serves until interrupted; prints its addresses as one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa_core.testing.chaos.capacity import Capacity
from nexa_core.testing.chaos.faults import Faults
from nexa_core.testing.chaos.server import ChaosServer
from nexa_core.testing.chaos.settings import Settings


def read_arguments(arguments: Sequence[str] | None = None) -> Settings:
    """The settings that a command line asks for; `--settings -` reads them from standard input."""
    parser = argparse.ArgumentParser(prog="python -m nexa_core.testing.chaos", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", help="the only key accepted")
    parser.add_argument("--model", action="append", default=[], help="the only models known")
    parser.add_argument("--answers", type=Path, help="JSONL of text with match or prompt_hash")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds more, at random")
    parser.add_argument(
        "--faults", default="none", help="none, flaky, storm, batches, or rates as JSON"
    )
    parser.add_argument("--concurrent", type=int, help="requests at once; more are refused")
    parser.add_argument("--queues", action="store_true", help="more wait instead")
    parser.add_argument("--bills-maximum", action="store_true")
    parser.add_argument("--log", type=Path, help="where its log is appended")
    parser.add_argument(
        "--settings", choices=["-"], help="all settings as one line of JSON on stdin"
    )
    known = parser.parse_args(arguments)
    if known.settings:
        return Settings.from_json(json.loads(sys.stdin.readline()))
    return Settings(
        host=known.host,
        port=known.port,
        seed=known.seed,
        key=known.key,
        models=tuple(known.model),
        answers=known.answers or (),
        latency=known.latency,
        jitter=known.jitter,
        faults=_read_faults(known.faults),
        capacity=Capacity(known.concurrent, queues=known.queues),
        bills_maximum=known.bills_maximum,
        log_path=known.log,
    )


def _read_faults(text: str) -> Faults:
    if text.startswith("{"):
        rates: dict[str, Any] = json.loads(text)
        return Faults(**rates)
    return Faults.named(text)


async def serve(settings: Settings, ends_with_stdin: bool) -> None:
    """Serve until interrupted or terminated, or until standard input ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with ChaosServer(settings) as server:
        if ends_with_stdin:
            loop.add_reader(sys.stdin.fileno(), ended.set)
        print(json.dumps({"url": server.url, "control_url": server.control_url}), flush=True)  # noqa: T201
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(read_arguments(), "--settings" in sys.argv))
