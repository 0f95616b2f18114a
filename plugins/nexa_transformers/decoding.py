"""The decode loop: rows grow token by token until a stop string, an end token or their limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

import torch

from nexa_transformers.encoding import drop_broken_end
from nexa_transformers.loading import Loaded
from nexa_transformers.sampling import Knobs, Sampler

if TYPE_CHECKING:
    from nexa_core import Request

_COMPACT_AT = 0.75
"""Share of rows still growing at which the finished ones are dropped from the batch."""


@dataclass(slots=True)
class Growth:
    """One row while it grows, and what became of it.

    `before` is the prompt's last token, `endings` are the tokens that can complete a stop string,
    `cut` is where the first stop string begins in `raw_text`.
    """

    before: int
    stops: tuple[str, ...]
    endings: frozenset[int]
    limit: int
    tokens: list[int] = field(default_factory=list)
    raw_text: str = ""
    cut: int | None = None
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """The text before the stop string."""
        return self.raw_text[: self.cut]

    def add(self, token: int, loaded: Loaded) -> None:
        """Take one more token and see whether the row ends with it."""
        self.tokens.append(token)
        if token in loaded.end_ids:
            self._finish("stop", loaded.encoder.decode(self.before, self.tokens[:-1]))
        elif token in self.endings and self._find_stop(loaded):
            self.finish_reason = "stop"
        elif len(self.tokens) == self.limit:
            self._finish("length", loaded.encoder.decode(self.before, self.tokens))

    def _find_stop(self, loaded: Loaded) -> bool:
        text = loaded.encoder.decode(self.before, self.tokens)
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.raw_text, self.cut = text, min(found)
        return bool(found)

    def _finish(self, reason: str, text: str) -> None:
        self.finish_reason, self.raw_text = reason, drop_broken_end(text)


def split_head(prompts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts have in common, one at least being left for each.

    A prompt by itself has no head: which part of it others will share cannot be known, and what is
    computed may depend on the batch alone.
    """
    if len(prompts) < 2:
        return 0
    lists = [list(prompt) for prompt in prompts]
    first, last = min(lists), max(lists)  # what the extremes share, all between them share
    together = zip(first, last, strict=False)
    differs = next((at for at, (one, other) in enumerate(together) if one != other), len(first))
    return min(differs, min(map(len, lists)) - 1)


@torch.inference_mode()
def complete(
    loaded: Loaded,
    requests: Sequence[Request],
    prompts: Sequence[Sequence[int]],
    cancelled: Event,
) -> list[Growth]:
    """One finished growth per request, in order; unfinished ones once `cancelled` is set.

    Inside, rows go by the length of their prompt, which depends on the batch alone.
    """
    order = sorted(range(len(prompts)), key=lambda slot: len(prompts[slot]))
    grown = {slot: _start(loaded, requests[slot], prompts[slot]) for slot in order}
    rows, ordered = list(grown.values()), [prompts[slot] for slot in order]
    sampler = Sampler([requests[slot] for slot in order], ordered, loaded.forbidden)
    batch = loaded.open_batch(ordered, split_head(prompts))
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
            kept = torch.tensor(growing, device=picked.device)
            rows, picked = [rows[place] for place in growing], picked[kept]
            batch.keep(kept)
            sampler.keep(kept)
        logits = batch.step(picked)
    return [grown[slot] for slot in range(len(prompts))]


def _start(loaded: Loaded, request: Request, prompt: Sequence[int]) -> Growth:
    limit = Knobs.read(request.sampling).max_tokens
    stops = tuple(filter(None, (*request.stop, *(request.sampling.get("stop") or ()))))
    endings = loaded.encoder.find_endings(stops) if stops else frozenset()
    return Growth(prompt[-1], stops, endings, limit)


@torch.inference_mode()
def choose(
    loaded: Loaded, prompts: Sequence[Sequence[int]], options: Sequence[int]
) -> list[tuple[float, ...]]:
    """Natural log-probability of each option token right after each prompt."""
    order = sorted(range(len(prompts)), key=lambda slot: len(prompts[slot]))
    batch = loaded.open_batch([prompts[slot] for slot in order], split_head(prompts))
    logprobs = batch.prefill().float().log_softmax(-1)
    wanted = logprobs[:, torch.tensor(list(options), device=logprobs.device)].tolist()
    found = {slot: tuple(row) for slot, row in zip(order, wanted, strict=True)}
    return [found[slot] for slot in range(len(prompts))]
