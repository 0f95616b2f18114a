"""Turns next-token logits into next tokens: penalties, filters and a draw from each row's own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from nexa_core import Request

DEFAULT_MAX_TOKENS = 256
_GRID = 2**52
"""Uniform numbers are multiples of 1/2^52, so that u times a float64 total stays below the total."""


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

    Tensors are (rows, …) and shrink with `keep`. `seen` marks the tokens of prompt and completion,
    which the repetition penalty weighs down (Keskar et al. 2019, as transformers does it).
    """

    def __init__(
        self,
        requests: Sequence[Request],
        prompts: Sequence[Sequence[int]],
        forbidden: torch.Tensor,
        vocabulary: int,
    ) -> None:
        device = forbidden.device
        knobs = [Knobs.read(request.sampling) for request in requests]
        longest = max(knob.max_tokens for knob in knobs)
        drawn = [
            draw_uniforms(request.seed, knob.max_tokens)
            for request, knob in zip(requests, knobs, strict=True)
        ]
        padded = [np.pad(numbers, (0, longest - len(numbers))) for numbers in drawn]
        self._uniforms = torch.tensor(np.stack(padded), device=device)
        self._forbidden = forbidden
        self._columns = {
            field.name: torch.tensor([[getattr(knob, field.name)] for knob in knobs], device=device)
            for field in fields(Knobs)
        }
        self._penalises = any(knob.repetition_penalty != 1 for knob in knobs)
        self._seen = torch.zeros(
            len(knobs), vocabulary if self._penalises else 0, dtype=torch.bool, device=device
        )
        if self._penalises:
            for row, prompt in enumerate(prompts):
                self._seen[row, torch.tensor(prompt, device=device)] = True
        self._step = 0

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._uniforms = self._uniforms[rows]
        self._seen = self._seen[rows]
        self._columns = {name: column[rows] for name, column in self._columns.items()}

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, (rows,), from its logits (rows, vocabulary), which are used up."""
        logits = logits.float().index_fill_(1, self._forbidden, -torch.inf)
        if self._penalises:
            penalty = self._columns["repetition_penalty"]
            weighed = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(self._seen, weighed, logits)
        tokens = logits.argmax(-1)
        heat = self._columns["temperature"]
        if bool((heat > 0).any()):
            probabilities = filter_probabilities(
                logits / heat.clamp_min(1e-5),
                self._columns["top_k"],
                self._columns["top_p"],
                self._columns["min_p"],
            )
            sampled = invert_cumulative(probabilities, self._uniforms[:, self._step, None])
            tokens = torch.where(heat[:, 0] > 0, sampled, tokens)
        if self._penalises:
            self._seen.scatter_(1, tokens[:, None], True)
        self._step += 1
        return tokens


def filter_probabilities(
    logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor
) -> torch.Tensor:
    """Probabilities (rows, vocabulary), zero for what a filter removes, not normalised again.

    `top_k` (0 = off), `top_p` and `min_p` are (rows, 1). Each filter is a lowest probability that
    stays, so tokens as likely as the last one kept stay too.
    """
    probabilities = logits.softmax(-1)
    if not bool((top_k > 0).any() | (top_p < 1).any()):
        return _drop_below(probabilities, min_p * probabilities.amax(-1, keepdim=True))
    ordered = probabilities.sort(-1, descending=True).values
    last = torch.where(top_k > 0, top_k, ordered.shape[1]).clamp_max(ordered.shape[1]) - 1
    ordered = _drop_below(ordered, ordered.gather(1, last))
    before = ordered.cumsum(-1) - ordered
    inside = (before < top_p * ordered.sum(-1, keepdim=True)) | (top_p >= 1)
    floor = torch.where(inside & (ordered > 0), ordered, torch.inf).amin(-1, keepdim=True)
    return _drop_below(probabilities, torch.maximum(floor, min_p * ordered[:, :1]))


def _drop_below(probabilities: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    return torch.where(probabilities >= floor, probabilities, 0.0)


def invert_cumulative(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token of each row at quantile `uniforms` (rows, 1) of its distribution, (rows,)."""
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)[:, 0]
