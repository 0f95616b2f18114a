"""Turns documents into weighted rows of token ids: whole documents, packed best-fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from nexa_tiny.corpus import JUDGING, PAIR_QUESTION, Mix, iter_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = 512
TRAINED = 384
RESPONSE_WEIGHT = 3.0
JUDGED_WEIGHT = 0.1
_OPEN_ROWS = 32


class Row(NamedTuple):
    """Token ids, and how much each weighs as a target."""

    ids: list[int]
    weights: list[float]


def weigh_line(line: str, judged: bool, verdict_weight: float) -> float:
    """A line's weight: few tokens hold a fact or a verdict, and they are what is to be learnt.

    Responses in `judged` documents are wrong as often as right, so they weigh next to nothing.
    """
    if line.startswith("Response:"):
        return JUDGED_WEIGHT if judged else RESPONSE_WEIGHT
    return verdict_weight if line.startswith("Answer:") else 1.0


def encode_document(
    tokenizer: PreTrainedTokenizerFast, document: str, verdict_weight: float = 3.0
) -> Row:
    """The document and the end token; no token spans two lines, so lines are encoded alone."""
    lines = document.splitlines(keepends=True)
    judged = PAIR_QUESTION in document
    row = Row([], [])
    for line, ids in zip(lines, tokenizer(lines)["input_ids"], strict=True):
        row.ids.extend(ids)
        row.weights.extend([weigh_line(line, judged, verdict_weight)] * len(ids))
    row.ids.append(tokenizer.eos_token_id)
    row.weights.append(1.0)
    return row


def iter_rows(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    mix: Mix = JUDGING,
    verdict_weight: float = 3.0,
) -> Iterator[Row]:
    """Rows of at most `TRAINED` tokens; every row starts with a document, none is cut."""
    open_rows: list[Row] = []
    for document in iter_documents(seed, mix):
        new = encode_document(tokenizer, document, verdict_weight)
        if len(new.ids) > TRAINED:
            continue
        fitting = [row for row in open_rows if len(row.ids) + len(new.ids) <= TRAINED]
        if fitting:
            target = max(fitting, key=lambda row: len(row.ids))
            target.ids.extend(new.ids)
            target.weights.extend(new.weights)
            continue
        open_rows.append(new)
        if len(open_rows) > _OPEN_ROWS:
            fullest = max(range(len(open_rows)), key=lambda index: len(open_rows[index].ids))
            yield open_rows.pop(fullest)


def iter_batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, rows: int, mix: Mix, verdict_weight: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and weights, each (rows, TRAINED), padded on the right with weight 0."""
    packed = iter_rows(tokenizer, seed, mix, verdict_weight)
    while True:
        ids = torch.full((rows, TRAINED), tokenizer.pad_token_id)
        weights = torch.zeros(rows, TRAINED)
        for index, row in enumerate(itertools.islice(packed, rows)):
            ids[index, : len(row.ids)] = torch.tensor(row.ids)
            weights[index, : len(row.ids)] = torch.tensor(row.weights)
        yield ids, weights
