"""A batch for models whose attention cannot share a head: whole prompts and the library's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PlainBatch:
    """A batch of whole prompts, padded on the left; the same three calls as `SharedHeadBatch`."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        width = max(map(len, prompts))
        self._ids = torch.tensor(
            [[0] * (width - len(p)) + list(p) for p in prompts], device=model.device
        )
        self._mask = torch.tensor(
            [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device
        )
        self._last_position = getattr(model.config, "max_position_embeddings", 2**31) - 1
        self._cache = DynamicCache(config=model.config)

    def prefill(self) -> torch.Tensor:
        """Logits after each prompt, (rows, vocabulary)."""
        return self._ask(self._ids, (self._mask.cumsum(1) - 1).clamp_min(0))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token for each row, (rows,) → (rows, vocabulary)."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        return self._ask(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)

    def _ask(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            ids,
            attention_mask=self._mask,
            position_ids=positions.clamp_max(self._last_position),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]
