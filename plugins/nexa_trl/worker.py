"""The training process: `python -m nexa_trl.worker ORDER.json`, told by a file, telling by JSON lines.

Standard output carries one JSON object a line: `progress`, then `result` or `error`; everything
that libraries print goes to standard error. When standard input ends, whoever asked is gone, and so
goes the process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
    "WANDB_DISABLED": "true",
}
"""Set before anything is imported that reads it."""
HEARTBEAT_SECONDS = 1.0


class Teller:
    """Writes messages to whoever asked, from any thread."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, threading.Lock()
        self._last: dict[str, Any] = {"step": 0, "steps": 0}

    def tell(self, kind: str, content: dict[str, Any]) -> None:
        """Write one message."""
        with self._lock:
            if kind == "progress":
                self._last = {"step": content["step"], "steps": content["steps"]}
            self._stream.write(json.dumps({kind: content}) + "\n")
            self._stream.flush()

    def beat(self) -> None:
        """Say every second that the work goes on."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            self.tell("progress", {**self._last, "metrics": {}})


def main() -> None:
    """Do the order and tell the result."""
    os.environ.update(ENVIRONMENT)
    teller = Teller(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    for task in (_end_with_parent, teller.beat):
        threading.Thread(target=task, daemon=True).start()
    order = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    try:
        teller.tell("result", run_order(order, lambda told: teller.tell("progress", told)))
    except Exception as cause:
        from nexa_core import NexaError

        known = isinstance(cause, NexaError)
        teller.tell(
            "error", {"message": str(cause) if known else f"{type(cause).__name__}: {cause}"}
        )
        if not known:
            raise


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(143)


def run_order(
    order: dict[str, Any], on_progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train as ordered; what the parent needs to know of the result."""
    from nexa_trl.training import train

    return train(order, on_progress)


if __name__ == "__main__":
    main()
