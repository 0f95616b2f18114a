"""The training formats: plain prompt and completion, and chat messages."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])


class PromptCompletion:
    """Columns `prompt` and `completion`: text, with a line break between them."""

    template = "{{ prompt }}\n"
    chat = False

    def columns(self, table: pa.Table) -> pa.Table:
        """The training columns of each row."""
        return table.select(["prompt", "completion"])


class Messages:
    """A column `messages`: what was asked and, as the last turn, the answer."""

    template = "{{ prompt }}"
    chat = True

    def columns(self, table: pa.Table) -> pa.Table:
        """The training column of each row."""
        pairs = zip(table["prompt"].to_pylist(), table["completion"].to_pylist(), strict=True)
        rows = [
            None if asked is None or answer is None else _converse(asked, answer)
            for asked, answer in pairs
        ]
        return pa.table({"messages": pa.array(rows, pa.list_(_TURN))})


def _converse(asked: Any, answer: str) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return [
        *({"role": turn["role"], "content": turn["content"] or ""} for turn in turns),
        {"role": "assistant", "content": answer},
    ]
