"""Training formats, and QLoRA through trl, peft and bitsandbytes: `train: {method: qlora}`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexa_core import ExporterSpec, hookimpl

if TYPE_CHECKING:
    from nexa_core import Exporter


@hookimpl
def register_exporters() -> Iterable[ExporterSpec]:
    """The training formats."""
    return [
        ExporterSpec("prompt-completion", "Text: columns `prompt` and `completion`", _build_pairs),
        ExporterSpec("messages", "Chat: a column `messages`", _build_messages),
    ]


def _build_pairs(_: None) -> Exporter:
    from nexa_trl.exporters import PromptCompletion

    return PromptCompletion()


def _build_messages(_: None) -> Exporter:
    from nexa_trl.exporters import Messages

    return Messages()
