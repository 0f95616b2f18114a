"""Keys and values of a batch: the heads computed last, and what each row adds to its head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from nexa_transformers.attention import Head

_ROOM = 64
"""Columns by which buffers grow."""


class HeadCache:
    """The heads computed last; a head depends on its tokens alone, so a hit changes no result."""

    def __init__(self, model: PreTrainedModel, size: int = 4) -> None:
        self._model, self._size = model, size
        self._heads: OrderedDict[tuple[int, ...], Head] = OrderedDict()

    def get(self, tokens: Sequence[int]) -> Head:
        """The head's keys and values, computed now or earlier; an empty list for no tokens."""
        wanted = tuple(tokens)
        if not wanted:
            return []
        if wanted not in self._heads:
            self._heads[wanted] = self._compute(wanted)
            while len(self._heads) > self._size:
                self._heads.popitem(last=False)
        self._heads.move_to_end(wanted)
        return self._heads[wanted]

    def _compute(self, tokens: Sequence[int]) -> Head:
        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([tokens], device=self._model.device)
        self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


class OwnCache(Cache):
    """What each row adds to the head, per layer, (rows, key/value heads, columns, size).

    All rows end at column `width`; shorter ones begin later, and what lies before them is zero.
    First come the prompts, block of rows by block of rows, then tokens for all rows at once.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(layers=[])
        self._rows, self.width = rows, width
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._block: slice | None = None

    def expect_prompts(self, rows: slice) -> None:
        """The next forward pass brings the ends of these rows' prompts."""
        self._block = rows

    def expect_tokens(self) -> None:
        """The next forward pass brings one token for every row."""
        if self.width == self._buffers[0][0].shape[2]:
            self.keep(slice(None), 0)
        self._block = None
        self.width += 1

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store, and return what the queries of this pass may see."""
        if layer_idx == len(self._buffers):
            self._buffers.append((self._allocate(key_states), self._allocate(value_states)))
        keys, values = self._buffers[layer_idx]
        if self._block is not None:
            first = self.width - key_states.shape[2]
            for buffer, states in ((keys, key_states), (values, value_states)):
                buffer[self._block, :, :first] = 0
                buffer[self._block, :, first : self.width] = states
            return key_states, value_states
        keys[:, :, self.width - 1] = key_states[:, :, 0]
        values[:, :, self.width - 1] = value_states[:, :, 0]
        return keys[:, :, : self.width], values[:, :, : self.width]

    def keep(self, rows: torch.Tensor | slice, first: int) -> None:
        """Copy these rows, from column `first` on, to buffers with room for more columns."""

        def copy(buffer: torch.Tensor) -> torch.Tensor:
            old = buffer[:, :, first : self.width][rows]
            new = old.new_empty(*old.shape[:2], old.shape[2] + _ROOM, old.shape[3])
            new[:, :, : old.shape[2]] = old
            return new

        self._buffers = [(copy(keys), copy(values)) for keys, values in self._buffers]
        self._rows, self.width = len(self._buffers[0][0]), self.width - first

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that are filled."""
        return self.width

    def _allocate(self, states: torch.Tensor) -> torch.Tensor:
        _, groups, _, size = states.shape
        return states.new_empty(self._rows, groups, self.width + _ROOM, size)
