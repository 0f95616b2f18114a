"""Attention over a head that all rows of a batch share, kept once, and over what each row adds.

The few-shot head of a prompt is the same in every row. Its keys and values are read once per step
for the whole batch: one large matrix product instead of one small one per row ("Hydragen",
Juravsky et al. 2024, arXiv:2402.05099; here with one softmax over both parts).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "nexa_shared_head"
Head = list[tuple[torch.Tensor, torch.Tensor]]
"""Per layer the keys and values, (key/value heads, tokens, size)."""

_BEYOND = ("sliding_window", "softcap", "s_aux", "position_bias")
"""What some architectures ask of an attention function and this one cannot do."""


def attend(
    module: Any,
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
    if not head or attention_mask is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    rows, heads, queries, size = query.shape
    groups = key.shape[1]
    # The query heads of one key/value head read the same keys: they count as further queries.
    grouped = (query * (scaling or size**-0.5)).reshape(rows, groups, -1, size)
    mask = attention_mask.repeat(1, 1, heads // groups, 1) if queries > 1 else attention_mask
    output = _attend_grouped(grouped, key, value, mask, *head[module.layer_idx])
    return output.reshape(rows, heads, queries, size).transpose(1, 2).contiguous(), None


def _attend_grouped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    head_key: torch.Tensor,
    head_value: torch.Tensor,
) -> torch.Tensor:
    """One softmax over the scores of head and own keys; `query` has as many heads as `key`."""
    rows, groups, queries, size = query.shape
    length = head_key.shape[1]
    together = query.transpose(0, 1).reshape(groups, rows * queries, size)
    on_head = (together @ head_key.transpose(1, 2)).view(groups, rows, queries, length)
    on_own = (query @ key.transpose(2, 3)).add_(mask)
    weights = torch.cat([on_head.transpose(0, 1), on_own], -1)
    weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
    output = weights[..., length:] @ value
    for_head = weights[..., :length].transpose(0, 1).reshape(groups, rows * queries, length)
    output += (for_head @ head_value).view(groups, rows, queries, size).transpose(0, 1)
    return output


AttentionInterface.register(NAME, attend)
