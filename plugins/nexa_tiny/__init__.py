"""nexa-tiny: a small base language model with its held-out items, and the shipped samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_core import SourceSpec, hookimpl

if TYPE_CHECKING:
    from nexa_core import Source

WEIGHTS_PATH = Path(__file__).parent / "weights"
DATA_PATH = Path(__file__).parent / "data"


@hookimpl
def register_sources() -> Iterable[SourceSpec]:
    """The evaluation items and the two samples, by the names pipelines use."""
    return [
        SourceSpec("nexa-tiny/heldout", "Held-out items of nexa-tiny", _read("heldout")),
        SourceSpec("sample/science_prompts.jsonl", "1,000 questions", _read("science_prompts")),
        SourceSpec("sample/answers.jsonl", "300 answered instructions", _read("answers")),
    ]


def _read(name: str) -> Callable[[None], Source]:
    def build(_options: None) -> Source:
        from nexa_tiny.sources import ShippedLines

        return ShippedLines(DATA_PATH / f"{name}.jsonl")

    return build
