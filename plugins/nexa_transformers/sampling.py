"""Logits to next tokens: penalties, filters, and a draw from each row's own random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from nexa_core import Request

DEFAULT_MAX_TOKENS = 256
_COLDEST = 1e-5
_GRID = 2**52
"""Uniform numbers are multiples of 1/2^52: u times a float64 total stays below the total."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The sampling keys these models know, with OpenAI's names, ranges and defaults.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 do
    nothing. They apply in the order of transformers: penalty, temperature, top_k, top_p, min_p.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = DEFAULT_MAX_TOKENS

    @classmethod
    def read(cls, sampling: Mapping[str, Any]) -> Knobs:
        """The knobs of a request; `stop` and `seed` are read elsewhere.

        Raises:
            ValueError: Some key or value cannot be used, named as `find_faults` names it.
        """
        if faults := find_faults(sampling):
            raise ValueError("; ".join(faults))
        known = {field.name for field in fields(cls)}
        return cls(
            **{key: value for key, value in sampling.items() if key in known and value is not None}
        )


def find_faults(sampling: Mapping[str, Any]) -> list[str]:
    """What in these sampling keys a local model cannot do, one sentence each."""
    known = {field.name for field in fields(Knobs)}
    faults = [
        f"a local model cannot sample with '{key}' (it can with {', '.join(sorted(known))}, stop)"
        for key, value in sampling.items()
        if key not in known | {"stop", "seed"} and value is not None
    ]
    ranges = {
        "temperature": (0, 100),
        "top_p": (1e-9, 1),
        "top_k": (0, 2**31),
        "min_p": (0, 1),
        "repetition_penalty": (1e-3, 1000),
        "max_tokens": (1, 2**31),
    }
    for key, (low, high) in ranges.items():
        value = sampling.get(key)
        if value is not None and not low <= value <= high:
            faults.append(f"{key} must lie in {low:g} … {high:g}, not {value}")
    return faults


def draw_uniforms(seed: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`count` numbers in [0, 1) that depend on the seed alone (Philox, keyed by it)."""
    generator = np.random.Generator(np.random.Philox(key=seed % 2**128))
    return generator.integers(0, _GRID, count) / _GRID


class Sampler:
    """Picks the next token of each row of a batch; row i uses only its own seed and knobs.

    Tensors are (rows, …) and shrink with `keep`.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        prompts: Sequence[Sequence[int]],
        forbidden: torch.Tensor,
    ) -> None:
        knobs = [Knobs.read(request.sampling) for request in requests]
        device = forbidden.device
        self._forbidden = forbidden
        self._columns = {
            field.name: torch.tensor([[getattr(knob, field.name)] for knob in knobs], device=device)
            for field in fields(Knobs)
        }
        self._uniforms = _stack(
            [
                draw_uniforms(request.seed, knob.max_tokens)
                for request, knob in zip(requests, knobs, strict=True)
            ],
            device,
        )
        self._greedy = any(knob.temperature == 0 for knob in knobs)
        self._hot = any(knob.temperature > 0 for knob in knobs)
        self._filters = any(knob.top_k > 0 or knob.top_p < 1 for knob in knobs)
        self._penalises = any(knob.repetition_penalty != 1 for knob in knobs)
        self._seen = _stack([list(dict.fromkeys(prompt)) for prompt in prompts], device)
        self._step = 0

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._uniforms, self._seen = self._uniforms[rows], self._seen[rows]
        self._columns = {name: column[rows] for name, column in self._columns.items()}

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, (rows,); the logits (rows, vocabulary) are used up."""
        logits = logits.float().index_fill_(1, self._forbidden, -torch.inf)
        if self._penalises:
            penalise(logits, self._seen, self._columns["repetition_penalty"])
        tokens = (
            logits.argmax(-1) if self._greedy else logits.new_empty(len(logits), dtype=torch.long)
        )
        if self._hot:
            heat = self._columns["temperature"]
            drawn = self._draw(logits.div_(heat.clamp_min(_COLDEST)))
            tokens = torch.where(heat[:, 0] > 0, drawn, tokens)
        if self._penalises:
            self._seen = torch.cat([self._seen, tokens[:, None]], 1)
        self._step += 1
        return tokens

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(-1)
        min_p = self._columns["min_p"]
        if self._filters:
            floor = find_floor(probabilities, self._columns["top_k"], self._columns["top_p"], min_p)
        else:
            floor = min_p * probabilities.amax(-1, keepdim=True)
        probabilities *= probabilities >= floor
        return invert_cumulative(probabilities, self._uniforms[:, self._step, None])


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> None:
    """Weigh down, in place, the tokens of prompt and completion, `seen` (rows, any number).

    The repetition penalty of Keskar et al. 2019 (arXiv:1909.05858), as transformers does it:
    positive logits are divided by it, negative ones multiplied.
    """
    found = logits.gather(1, seen)
    logits.scatter_(1, seen, torch.where(found > 0, found / penalty, found * penalty))


def find_floor(
    probabilities: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor
) -> torch.Tensor:
    """The lowest probability that top_k (0 = off), top_p and min_p all keep, (rows, 1).

    top_p is a share of what top_k left. Tokens as likely as the last one kept are kept too.
    """
    ordered = _sort(probabilities)
    size = ordered.shape[1]
    kth = ordered.gather(1, torch.where(top_k > 0, (size - top_k).clamp_min(0), 0))
    from_below = (ordered * (ordered >= kth)).cumsum(-1)
    first = torch.searchsorted(from_below, (1 - top_p) * from_below[:, -1:], right=True)
    floor = ordered.gather(1, first.clamp_max(size - 1))
    return torch.maximum(floor, min_p * ordered[:, -1:])


def invert_cumulative(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token of each row at quantile `uniforms` (rows, 1) of its distribution, (rows,).

    Raises:
        ArithmeticError: The probabilities of some row are not finite, or all zero.
    """
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    if not bool((total.isfinite() & (total > 0)).all()):
        raise ArithmeticError("the model's probabilities are not finite numbers")
    return torch.searchsorted(cumulative, uniforms * total, right=True)[:, 0]


def _sort(values: torch.Tensor) -> torch.Tensor:
    """Each row in ascending order; on a CPU by numpy, which is 20 times faster than torch there."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values


def _stack(rows: Sequence[Any], device: torch.device) -> torch.Tensor:
    """Rows of different length as one tensor, each filled up with its own last element."""
    longest = max(map(len, rows))
    return torch.tensor(
        np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in rows]), device=device
    )
