"""Attention over a head that all rows of a batch share, kept once, and over what each row adds to it.

The few-shot head of a prompt is the same in every row. Its keys and values are computed once and
read once per step for the whole batch, which is one large matrix product instead of one small one
per row ("Hydragen", Juravsky et al. 2024, arXiv:2402.05099; here with one softmax over both parts).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "nexa_shared_head"
_BEYOND = ("sliding_window", "softcap", "s_aux", "position_bias")
"""What some architectures ask of an attention function and this one cannot do."""
_ROOM = 64
_PREFILL_ROWS = 32
Head = list[tuple[torch.Tensor, torch.Tensor]]
"""Per layer the keys and values, (key/value heads, tokens, size)."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    head: Head | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it; every query sees all of `head` and, masked, `key`.

    `query` is (rows, heads, queries, size), `key` and `value` (rows, key/value heads, keys, size),
    `attention_mask` is added to the scores, (rows, 1, queries, keys). Returns (rows, queries,
    heads, size).

    Raises:
        NotImplementedError: The model attends in another way; it must keep its own attention.
    """
    if beyond := [name for name in _BEYOND if kwargs.get(name) is not None]:
        raise NotImplementedError(f"attention with {', '.join(beyond)} cannot share a head")
    if not head:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    head_key, head_value = head[module.layer_idx]
    rows, heads, queries, size = query.shape
    groups, length, _ = head_key.shape
    per_group = heads // groups * queries
    query = (query * (scaling or size**-0.5)).reshape(rows, groups, per_group, size)
    if attention_mask is not None and queries > 1:
        attention_mask = attention_mask.repeat(1, 1, heads // groups, 1)
    together = query.transpose(0, 1).reshape(groups, rows * per_group, size)
    shared = (
        (together @ head_key.transpose(1, 2)).view(groups, rows, per_group, length).transpose(0, 1)
    )
    own = query @ key.transpose(2, 3)
    if attention_mask is not None:
        own = own + attention_mask
    weights = torch.cat([shared, own], -1).softmax(-1, dtype=torch.float32).to(query.dtype)
    on_head = weights[..., :length].transpose(0, 1).reshape(groups, rows * per_group, length)
    output = weights[..., length:] @ value
    output += (on_head @ head_value).view(groups, rows, per_group, size).transpose(0, 1)
    return output.view(rows, heads, queries, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)


class OwnLayer(DynamicLayer):
    """What the rows add to the head in one layer, in a buffer that grows by blocks.

    The prompts' ends are written block of rows by block of rows, each ending at column `width`.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.filled = 0
        """Rows whose prompt is in; when all are, updates append one column."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.rows, key_states.shape[1], self.width + _ROOM, key_states.shape[3])
        self.keys, self.values = key_states.new_zeros(shape), value_states.new_zeros(shape)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store and return what the given queries may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, _, columns, _ = key_states.shape
        if self.filled < self.rows:
            block = (
                slice(self.filled, self.filled + rows),
                slice(None),
                slice(self.width - columns, self.width),
            )
            self.keys[block], self.values[block] = key_states, value_states
            self.filled += rows
            return key_states, value_states
        if self.width == self.keys.shape[2]:
            self.keep(slice(None), 0)
        self.keys[:, :, self.width], self.values[:, :, self.width] = (
            key_states[:, :, 0],
            value_states[:, :, 0],
        )
        self.width += 1
        return self.keys[:, :, : self.width], self.values[:, :, : self.width]

    def keep(self, rows: torch.Tensor | slice, first: int) -> None:
        """Copy these rows, from column `first` on, to a buffer with room for more columns."""
        for name in ("keys", "values"):
            old = getattr(self, name)[rows, :, first : self.width]
            new = old.new_empty(*old.shape[:2], old.shape[2] + _ROOM, old.shape[3])
            new[:, :, : old.shape[2]] = old
            setattr(self, name, new)
        self.rows = self.filled = len(self.keys)
        self.width -= first

    def get_seq_length(self) -> int:
        return self.width


class HeadCache:
    """The heads computed last; a head depends on its tokens alone, so a hit changes no result."""

    def __init__(self, model: PreTrainedModel, size: int = 4) -> None:
        self._model, self._size = model, size
        self._heads: OrderedDict[tuple[int, ...], Head] = OrderedDict()

    def get(self, tokens: Sequence[int]) -> Head:
        """The head's keys and values, computed now or earlier."""
        wanted = tuple(tokens)
        if wanted and wanted not in self._heads:
            cache = DynamicCache(config=self._model.config)
            ids = torch.tensor([wanted], device=self._model.device)
            self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._heads[wanted] = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
            while len(self._heads) > self._size:
                self._heads.popitem(last=False)
        elif wanted:
            self._heads.move_to_end(wanted)
        return self._heads[wanted] if wanted else []


class SharedHeadBatch:
    """A batch of rows that continue one head; `endings` are the tokens after it, never empty.

    Rows are held in the order given, which should go by length: blocks of rows are padded on the
    left to their longest.
    """

    def __init__(
        self, model: PreTrainedModel, head: Head, endings: Sequence[Sequence[int]]
    ) -> None:
        self._model, self._head, self._endings = model, head, endings
        width = max(map(len, endings))
        self._layers = [
            OwnLayer(len(endings), width) for _ in range(model.config.num_hidden_layers)
        ]
        self._cache = Cache(layers=self._layers)
        self._lengths = torch.tensor([len(ids) for ids in endings], device=model.device)
        self._start = head[0][0].shape[1] if head else 0
        self._positions = self._start + self._lengths
        self._last_position = getattr(model.config, "max_position_embeddings", 2**31) - 1
        self._mask = self._mask_padding(width)

    def prefill(self) -> torch.Tensor:
        """Logits after each prompt, (rows, vocabulary)."""
        blocks = range(0, len(self._endings), _PREFILL_ROWS)
        return torch.cat([self._prefill(self._endings[i : i + _PREFILL_ROWS]) for i in blocks])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token for each row, (rows,) → (rows, vocabulary)."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1))
        positions = self._positions.clamp_max(self._last_position)[:, None]
        self._positions = self._positions + 1
        return self._ask(tokens[:, None], positions, self._mask[:, None, None])

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, and without the columns that only others used."""
        self._lengths, self._positions = self._lengths[rows], self._positions[rows]
        first = int((self._mask[rows] < 0).sum(1).min())
        self._mask = self._mask[rows, first:]
        for layer in self._layers:
            layer.keep(rows, first)

    def _mask_padding(self, width: int) -> torch.Tensor:
        column = torch.arange(width, device=self._model.device)
        padding = column < width - self._lengths[:, None]
        lowest = torch.finfo(self._model.dtype).min
        return torch.zeros(
            padding.shape, dtype=self._model.dtype, device=padding.device
        ).masked_fill(padding, lowest)

    def _prefill(self, endings: Sequence[Sequence[int]]) -> torch.Tensor:
        width = max(map(len, endings))
        ids = torch.tensor(
            [[0] * (width - len(e)) + list(e) for e in endings], device=self._model.device
        )
        column = torch.arange(width, device=ids.device)
        pads = width - torch.tensor([len(e) for e in endings], device=ids.device)[:, None]
        hidden = (column < pads)[:, None] | (column > column[:, None])
        mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=ids.device)
        mask.masked_fill_(hidden, torch.finfo(self._model.dtype).min)
        positions = self._start + (column - pads).clamp_min(0)
        return self._ask(ids, positions, mask[:, None])

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
