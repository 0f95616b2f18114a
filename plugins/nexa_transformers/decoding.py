"""The decode loop: rows of a batch grow token by token until a stop string, an end token or their limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from threading import Event
from typing import TYPE_CHECKING

import torch

from nexa_transformers.encoding import drop_broken_end
from nexa_transformers.sampling import Knobs, Sampler

if TYPE_CHECKING:
    from nexa_core import Request
    from nexa_transformers.loading import Loaded

_COMPACT_AT = 0.75
"""Share of rows still growing at which the finished ones are dropped from the batch."""


@dataclass(slots=True)
class Growth:
    """One row while it grows, and what became of it; `slot` is its place among the requests."""

    slot: int
    before: int
    stops: tuple[str, ...]
    endings: frozenset[int]
    limit: int
    tokens: list[int] = field(default_factory=list)
    raw_text: str = ""
    cut: int | None = None
    """Where the first stop string begins in `raw_text`."""
    finish_reason: str = ""

    @property
    def text(self) -> str:
        return self.raw_text[: self.cut]

    def add(self, token: int, loaded: Loaded) -> None:
        """Take one more token and see whether the row ends with it."""
        self.tokens.append(token)
        if token in loaded.end_ids:
            self._finish(
                "stop", drop_broken_end(loaded.encoder.decode(self.before, self.tokens[:-1]))
            )
            return
        if token in self.endings:
            text = loaded.encoder.decode(self.before, self.tokens)
            found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
            if found:
                self.cut = min(found)
                self._finish("stop", text)
                return
        if len(self.tokens) == self.limit:
            self._finish("length", drop_broken_end(loaded.encoder.decode(self.before, self.tokens)))

    def _finish(self, reason: str, text: str) -> None:
        self.finish_reason, self.raw_text = reason, text


def split_head(prompts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts have in common, one at least being left for each.

    A prompt by itself has no head: which part of it others will share cannot be known, and what is
    computed may depend on the batch alone.
    """
    if len(prompts) < 2:
        return 0
    return min(len(commonprefix([list(prompt) for prompt in prompts])), min(map(len, prompts)) - 1)


@torch.inference_mode()
def complete(
    loaded: Loaded, requests: Sequence[Request], prompts: Sequence[Sequence[int]], cancelled: Event
) -> list[Growth]:
    """One finished growth per request, in order; stops early, unfinished, when `cancelled` is set."""
    order = sorted(range(len(prompts)), key=lambda slot: len(prompts[slot]))
    rows = [_start(loaded, slot, requests[slot], prompts[slot]) for slot in order]
    batch = loaded.open_batch([prompts[slot] for slot in order])
    sampler = Sampler(
        [requests[slot] for slot in order],
        [prompts[slot] for slot in order],
        loaded.forbidden,
        loaded.vocabulary,
    )
    finished = sorted(rows, key=lambda row: row.slot)
    logits = batch.prefill()
    while not cancelled.is_set():
        picked = sampler.pick(logits)
        for row, token in zip(rows, picked.tolist(), strict=True):
            if not row.finish_reason:
                row.add(token, loaded)
        growing = [place for place, row in enumerate(rows) if not row.finish_reason]
        if not growing:
            break
        if len(growing) <= _COMPACT_AT * len(rows):
            keep = torch.tensor(growing, device=picked.device)
            rows, picked = [rows[place] for place in growing], picked[keep]
            batch.keep(keep)
            sampler.keep(keep)
        logits = batch.step(picked)
    return finished


def _start(loaded: Loaded, slot: int, request: Request, prompt: Sequence[int]) -> Growth:
    knobs = Knobs.read(request.sampling)
    stops = tuple(filter(None, (*request.stop, *(request.sampling.get("stop") or ()))))
    endings = loaded.encoder.find_endings(stops) if stops else frozenset()
    return Growth(slot, prompt[-1], stops, endings, knobs.max_tokens)


@torch.inference_mode()
def choose(
    loaded: Loaded, prompts: Sequence[Sequence[int]], options: Sequence[int]
) -> list[tuple[float, ...]]:
    """Natural log-probability of each option token right after each prompt."""
    order = sorted(range(len(prompts)), key=lambda slot: len(prompts[slot]))
    logits = loaded.open_batch([prompts[slot] for slot in order]).prefill()
    wanted = torch.tensor(list(options), device=logits.device)
    logprobs = logits.float().log_softmax(-1)[:, wanted].tolist()
    found = dict(zip(order, map(tuple, logprobs), strict=True))
    return [found[slot] for slot in range(len(prompts))]
