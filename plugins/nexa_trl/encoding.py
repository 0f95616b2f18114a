"""Rows of a packaged dataset to token ids and labels; what cannot be trained on is counted by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not trained on."""
BATCH = 1_000
_TOKENS = pa.list_(pa.int32())
SCHEMA = pa.schema([("input_ids", _TOKENS), ("labels", _TOKENS)])


@dataclass
class Encoded:
    """What became of the rows of a split: how many are trained on, and why others are not.

    `dropped` counts by reason: `control_token` (a text holds one of the tokenizer's own tokens),
    `too_long` (over `max_length`: a cut answer would teach never to end), `template` (the chat
    template does not continue its own prompt). `longest` is in tokens, over all rows that fit.
    """

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The counts as a manifest holds them."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "trained_share": round(self.trained_tokens / self.tokens, 4) if self.tokens else None,
            "longest": self.longest,
            "dropped": dict(self.dropped),
        }


class RowEncoder:
    """Encodes a prompt as a model is asked it, and a completion as it shall answer, with its end."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length
        added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
        self._control = sorted({*tokenizer.all_special_tokens, *added} - {""})

    def encode(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]] | str:
        """Token ids and labels of a row, or the reason why it is dropped."""
        texts = _texts(row)
        if any(token in text for text in texts for token in self._control):
            return "control_token"
        pair = self._encode_chat(row) if "messages" in row else self._encode_pair(row)
        if pair is None:
            return "template"
        prompt, answer = pair
        if len(prompt) + len(answer) > self._max_length:
            return "too_long"
        return [*prompt, *answer], [*[IGNORED] * len(prompt), *answer]

    def _encode_pair(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        # Apart, as at inference: the prompt is encoded alone there, and the answer grows after it.
        prompt = self._tokenizer(row["prompt"])["input_ids"]
        answer = self._tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        return prompt, [*answer, self._tokenizer.eos_token_id]

    def _encode_chat(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]] | None:
        # Arrow fills the fields that a turn does not have with nulls, which templates would show.
        turns = [{k: v for k, v in turn.items() if v is not None} for turn in row["messages"]]
        tools = {"tools": json.loads(row["tools"])} if row.get("tools") else {}
        prompt = self._apply_template(turns[:-1], add_generation_prompt=True, **tools)
        whole = self._apply_template(turns, **tools)
        if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
            return None
        return prompt, whole[len(prompt) :]

    def _apply_template(self, turns: Sequence[Any], **options: Any) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, **options
        )["input_ids"]
        return ids


def _texts(row: Mapping[str, Any]) -> list[str]:
    if "messages" in row:
        return [turn["content"] for turn in row["messages"]]
    return [row["prompt"], row["completion"]]


def read_rows(dataset: Path, split: str) -> Iterator[dict[str, Any]]:
    """The training columns of a split, row by row, in the order of its files."""
    for path in sorted((dataset / "data").glob(f"{split}-*.parquet")):
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        columns = ["messages"] if "messages" in names else ["prompt", "completion"]
        columns += ["tools"] if "messages" in names and "tools" in names else []
        for batch in file.iter_batches(batch_size=BATCH, columns=columns):
            yield from batch.to_pylist()


def write_tokens(rows: Iterable[Mapping[str, Any]], encoder: RowEncoder, path: Path) -> Encoded:
    """Write the tokens of rows to an Arrow file that can be mapped into memory; what became of them."""
    counts = Encoded()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        batch: list[dict[str, list[int]]] = []
        for row in rows:
            found = encoder.encode(row)
            if isinstance(found, str):
                counts.dropped[found] += 1
                continue
            ids, labels = found
            batch.append({"input_ids": ids, "labels": labels})
            counts.rows += 1
            counts.tokens += len(ids)
            counts.trained_tokens += len(ids) - labels.count(IGNORED)
            counts.longest = max(counts.longest, len(ids))
            if len(batch) == BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, SCHEMA))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, SCHEMA))
    return counts
