"""The trainer as nexa sees it: it orders a training process, hands on what that tells, and ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nexa_core import Event, TrainerError, Training, TrainingProgressed
from nexa_trl.weights import find_weights

if TYPE_CHECKING:
    from nexa_trl.options import QloraOptions

_SECRET = ("KEY", "SECRET", "PASSWORD", "TOKEN", "CREDENTIAL")
_LOG_LINES = 6
_GRACE_SECONDS = 10.0


class QloraTrainer:
    """QLoRA on one device, in a process of its own; `on_event` stops it by raising.

    The process holds the memory and gives it back, sees no API key, and dies with whoever asked.
    """

    def __init__(self, options: QloraOptions) -> None:
        self._options = options
        self._weights = find_weights(options.model)

    def preflight(self, chat: bool) -> list[str]:
        """What speaks against training this student, from its own files; empty when nothing does."""
        settings = self._weights.read_settings("tokenizer_config.json")
        if settings is None:
            return []
        faults = []
        if not settings.get("eos_token"):
            faults.append("its tokenizer has no end token, so it could never learn to stop")
        template = Path(self._weights.source) / "chat_template.jinja"
        if chat and not settings.get("chat_template") and not template.is_file():
            faults.append("it has no chat template: package with format prompt-completion")
        return faults

    def train(
        self, dataset: Path, out: Path, on_event: Callable[[Event], None], resume: bool = False
    ) -> Training:
        """Train on a packaged dataset; `out` gets `adapter/`, `checkpoints/` and `metrics.jsonl`.

        Raises:
            TrainerError: The training process failed; `log.txt` beside the adapter says more.
        """
        order = {
            "dataset": str(dataset.resolve()),
            "out": str(out.resolve()),
            "weights": self._weights.as_json(),
            "options": self._options.model_dump(),
            "resume": resume,
        }
        order_path = out / "order.json"
        order_path.write_text(json.dumps(order, indent=1) + "\n", "utf-8")
        with (out / "log.txt").open("a", encoding="utf-8") as log:
            result = _ask_worker(order_path, log, on_event, self._weights.on_hub)
        if "result" not in result:
            raise TrainerError(_describe_failure(result, out / "log.txt"), "")
        found = result["result"]
        return Training(**{**found, "adapter_path": Path(found["adapter_path"])})


def _ask_worker(
    order_path: Path, log: IO[str], on_event: Callable[[Event], None], on_hub: bool
) -> dict[str, Any]:
    """Run the training process to its end; its last message, with its exit status."""
    last: dict[str, Any] = {}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "nexa_trl.worker", str(order_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=_make_environment(on_hub),
        start_new_session=True,  # Ctrl-C is for the parent to act on
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "progress" in message:
                on_event(TrainingProgressed(**message["progress"]))
            else:
                last = message
        return {**last, "status": process.wait()}
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Leave no process behind: checkpoints are whole or unmarked, so it may die at any moment."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _make_environment(on_hub: bool) -> dict[str, str]:
    """This process's environment without keys, with the modules it imports, on one device."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name.upper() for part in _SECRET) or (on_hub and name == "HF_TOKEN")
    }
    # trl refuses a plain process that sees several GPUs.
    first = kept.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    offline = {} if on_hub else {"HF_HUB_OFFLINE": "1"}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**kept, **offline, "CUDA_VISIBLE_DEVICES": first, "PYTHONPATH": path}


def _describe_failure(result: dict[str, Any], log: Path) -> str:
    if "error" in result:
        return str(result["error"]["message"])
    status = result["status"]
    if status == -9:
        return "The training process was killed; most often it needed more memory than there is."
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()[-_LOG_LINES:]
    return f"The training process ended with status {status}: {' | '.join(lines) or 'no word'}"
