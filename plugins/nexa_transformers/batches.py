"""Batches of prompts that grow token by token: over a shared head, or each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

from nexa_transformers.attention import Head
from nexa_transformers.caches import OwnCache

_BLOCK_ROWS = 32
"""Prompts that are computed at once, at most: blocks of similar length waste little on padding."""
_BLOCK_SCORES = 2**26
"""Attention scores that are held at once, at most: 256 MB in 32 bits."""


class Batch(Protocol):
    """Rows that grow together; `keep` drops those that are finished."""

    def prefill(self) -> torch.Tensor:
        """Logits after each prompt, (rows, vocabulary)."""
        ...

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token for each row, (rows,) → (rows, vocabulary)."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        ...


class SharedHeadBatch:
    """Rows that continue one head; `endings` are the tokens after it, at least one for each row.

    Rows should come in the order of their length: blocks are padded on the left to their longest.
    """

    def __init__(
        self, model: PreTrainedModel, head: Head, endings: Sequence[Sequence[int]]
    ) -> None:
        self._model, self._head, self._endings = model, head, endings
        self._start = head[0][0].shape[1] if head else 0
        self._last_position = _find_last_position(model)
        lengths = torch.tensor([len(ids) for ids in endings], device=model.device)
        width = int(lengths.max())
        self._cache = OwnCache(len(endings), width)
        self._positions = self._start + lengths
        self._mask = self._hide(_find_padding(lengths, width))

    def prefill(self) -> torch.Tensor:
        """Logits after each prompt, (rows, vocabulary)."""
        return torch.cat([self._prefill(rows) for rows in self._split_blocks()])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token for each row, (rows,) → (rows, vocabulary)."""
        self._cache.expect_tokens()
        self._mask = torch.nn.functional.pad(self._mask, (0, 1))
        positions = self._positions.clamp_max(self._last_position)[:, None]
        self._positions = self._positions + 1
        return self._ask(tokens[:, None], positions, self._mask[:, None, None])

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, and without the columns that only others used."""
        self._positions, self._mask = self._positions[rows], self._mask[rows]
        first = int((self._mask < 0).sum(1).min())
        self._mask = self._mask[:, first:]
        self._cache.keep(rows, first)

    def _split_blocks(self) -> Iterator[slice]:
        """Blocks of at most `_BLOCK_ROWS` rows whose scores fit `_BLOCK_SCORES`, one row at least."""
        heads, first = self._model.config.num_attention_heads, 0
        while first < len(self._endings):
            rows = self._endings[first : first + _BLOCK_ROWS]
            while len(rows) > 1:
                width = max(map(len, rows))
                if len(rows) * heads * width * (self._start + width) <= _BLOCK_SCORES:
                    break
                rows = rows[: len(rows) // 2]
            yield slice(first, first + len(rows))
            first += len(rows)

    def _prefill(self, rows: slice) -> torch.Tensor:
        endings = self._endings[rows]
        width = max(map(len, endings))
        ids = torch.tensor(
            [[0] * (width - len(e)) + list(e) for e in endings], device=self._model.device
        )
        lengths = torch.tensor([len(e) for e in endings], device=ids.device)
        column = torch.arange(width, device=ids.device)
        hidden = _find_padding(lengths, width)[:, None] | (column > column[:, None])
        positions = self._start + (column - (width - lengths)[:, None]).clamp_min(0)
        self._cache.expect_prompts(rows)
        return self._ask(ids, positions, self._hide(hidden)[:, None])

    def _hide(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is added to the scores: the lowest number where `hidden`, else zero."""
        mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, torch.finfo(self._model.dtype).min)

    def _ask(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            head=self._head,
        ).logits
        return logits[:, -1]


class PlainBatch:
    """Whole prompts and the library's own cache, for models whose attention cannot share a head."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        width = max(map(len, prompts))
        self._ids = torch.tensor(
            [[0] * (width - len(p)) + list(p) for p in prompts], device=model.device
        )
        lengths = torch.tensor([len(p) for p in prompts], device=model.device)
        self._mask = (~_find_padding(lengths, width)).long()
        self._last_position = _find_last_position(model)
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


def _find_padding(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Where rows of these lengths are padded when they all end at column `width`, (rows, width)."""
    return torch.arange(width, device=lengths.device) < (width - lengths)[:, None]


def _find_last_position(model: PreTrainedModel) -> int:
    """Finished rows that wait for their removal must not run beyond the position table."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31) - 1
