"""Prompts to token ids and generated ids to text, with control tokens kept out of plain text."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexa_core import Message

_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for a character of which only some bytes are there."""


class Encoder:
    """A tokenizer that refuses control tokens written in text; safe to call from any thread."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # a fast tokenizer cannot be borrowed twice
        self.size = len(tokenizer)
        self.end_id: int | None = tokenizer.eos_token_id
        added = tokenizer.added_tokens_decoder.items()
        self.control_ids = frozenset(tokenizer.all_special_ids) | {
            i for i, token in added if token.special
        }
        texts = {
            *tokenizer.all_special_tokens,
            *(token.content for _, token in added if token.special),
        }
        longest_first = sorted(filter(None, texts), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.find_endings = lru_cache(maxsize=32)(self._find_endings)

    def encode(self, prompt: str | Sequence[Message]) -> list[int]:
        """Token ids of a text as it stands, or of messages in the model's chat template.

        The tokenizer's own post-processor decides whether a text starts with a BOS token.

        Raises:
            ValueError: The text holds a control token or is empty, or there is no chat template.
        """
        if not isinstance(prompt, str):
            return self._encode_messages(prompt)
        self._refuse_control_tokens(prompt)
        with self._lock:
            ids: list[int] = self._tokenizer(prompt)["input_ids"]
        if not ids:
            raise ValueError("the prompt is empty")
        return ids

    def count(self, text: str) -> int:
        """How many tokens a text is, without the ones a tokenizer adds around it."""
        with self._lock:
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, before: int, ids: Sequence[int]) -> str:
        """The text of generated ids that follow the token `before`.

        Decoding starts one token early because some tokenizers drop the space in front of the
        first token they decode.
        """
        with self._lock:
            whole: str = self._tokenizer.decode([before, *ids], clean_up_tokenization_spaces=False)
            return whole[
                len(self._tokenizer.decode([before], clean_up_tokenization_spaces=False)) :
            ]

    def find_single(self, option: str) -> int:
        """The one token that an option is.

        Raises:
            ValueError: The option is several tokens, so its probability is not that of one step.
        """
        with self._lock:
            ids = self._tokenizer(option, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            pieces = " + ".join(repr(self._pieces[i]) for i in ids) or "no token at all"
            raise ValueError(
                f"the option {option!r} must be one token of this model, it is {pieces}"
            )
        return int(ids[0])

    def _find_endings(self, stops: tuple[str, ...]) -> frozenset[int]:
        """The tokens that can complete a stop string: only after them is text searched."""
        if any(stop.endswith(" ") for stop in stops):
            return frozenset(
                range(len(self._pieces))
            )  # some tokenizers hide a token's leading space
        last = {stop[-1] for stop in stops} | {_BROKEN}
        return frozenset(i for i, piece in enumerate(self._pieces) if not last.isdisjoint(piece))

    @cached_property
    def _pieces(self) -> list[str]:
        with self._lock:
            ids = [[i] for i in range(len(self._tokenizer))]
            pieces: list[str] = self._tokenizer.batch_decode(
                ids, clean_up_tokenization_spaces=False
            )
        return pieces

    def _encode_messages(self, messages: Sequence[Message]) -> list[int]:
        if not self._tokenizer.chat_template:
            raise ValueError("this model has no chat template: ask it with `api: completions`")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        for turn in turns:
            self._refuse_control_tokens(turn["content"])
        with self._lock:
            ids = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=True
            )["input_ids"]
        return list(ids)

    def _refuse_control_tokens(self, text: str) -> None:
        if found := self._control.search(text):
            raise ValueError(
                f"the prompt holds the control token {found.group()!r} as text, at {found.start()}"
            )


def drop_broken_end(text: str) -> str:
    """The text without a last character that was cut between its bytes (at most 3 of 4 there)."""
    kept = text.rstrip(_BROKEN)
    return kept if len(text) - len(kept) <= 3 else text
