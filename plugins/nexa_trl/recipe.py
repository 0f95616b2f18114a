"""The settings of a training that are derived from model and data where the user did not set them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from nexa_trl.options import QloraOptions

LONGEST = 4096
"""Rows are trained up to this many tokens where neither user nor model says less."""
_RANKS = (16, 32, 64, 128)
_SMALL = 1_000_000_000


@dataclass(frozen=True)
class Student:
    """What is known of the model before training. `width` is its hidden size."""

    family: str
    parameters: int
    width: int
    context: int
    adapter_size_per_rank: int
    """Trainable parameters that one rank adds."""


@dataclass(frozen=True)
class Recipe:
    """Every number a training runs with."""

    rank: int
    alpha: float
    dropout: float
    epochs: float
    batch: int
    micro_batch: int
    learning_rate: float
    max_length: int
    steps: int
    save_steps: int
    log_steps: int
    seed: int
    quantization: str
    checkpointing: bool
    """Whether activations are computed again instead of kept: less memory, a third more time."""

    def as_json(self) -> dict[str, Any]:
        """The recipe as a manifest holds it."""
        return asdict(self)


def find_length(options: QloraOptions, context: int) -> int:
    """How many tokens a row may have: the wanted number, within the model's context."""
    return min(options.max_length or LONGEST, context)


def derive_recipe(
    options: QloraOptions, student: Student, rows: int, trained_tokens: int, max_length: int
) -> Recipe:
    """The recipe for this many rows with this many trained tokens."""
    epochs = options.epochs or _choose_epochs(rows, options.batch)
    steps = max(1, math.ceil(rows / options.batch) * epochs)
    steps = math.ceil(steps)
    return Recipe(
        rank=options.rank or _choose_rank(student, trained_tokens),
        alpha=options.alpha,
        dropout=options.dropout,
        epochs=epochs,
        batch=options.batch,
        micro_batch=options.micro_batch or _choose_micro_batch(student, options.batch),
        learning_rate=options.learning_rate or _choose_rate(student),
        max_length=max_length,
        steps=steps,
        save_steps=options.save_steps or max(20, steps // 10),
        log_steps=max(1, steps // 60),
        seed=options.seed,
        quantization=options.quantization,
        checkpointing=student.parameters >= _SMALL,
    )


def _choose_rate(student: Student) -> float:
    """5e-5 · 10 · (2000 / width)^p: the fit of Schulman et al., LoRA Without Regret (2025).

    p is 0.781 for Llama and 0.0775 for Qwen; other families get Llama's. It holds for alpha 32.
    """
    power = 0.0775 if student.family.startswith("qwen") else 0.781
    rate = 5e-4 * (2000 / student.width) ** power
    return float(f"{min(max(rate, 5e-5), 3e-3):.3g}")


def _choose_rank(student: Student, trained_tokens: int) -> int:
    """The lowest rank whose adapter has a parameter per trained token (LoRA Without Regret)."""
    fits = (rank for rank in _RANKS if rank * student.adapter_size_per_rank >= trained_tokens)
    return next(fits, _RANKS[-1])


def _choose_epochs(rows: int, batch: int) -> float:
    """Two epochs; three where that is under 250 steps."""
    return 2.0 if 2 * rows / batch >= 250 else 3.0


def _choose_micro_batch(student: Student, batch: int) -> int:
    """All rows of a step at once for a small model, else at most four; a divisor of the batch."""
    most = batch if student.parameters < _SMALL else 4
    return next(size for size in range(min(most, batch), 0, -1) if batch % size == 0)
