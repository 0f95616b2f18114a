"""Reads prompt files and asks the model directly: batched completions and A/B scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_BATCH = 50


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file: its front matter and its body, one closing newline removed."""

    settings: dict[str, Any]
    body: str

    def render(self, **values: str) -> str:
        """The text the model is given."""
        return (
            ImmutableSandboxedEnvironment(undefined=StrictUndefined)
            .from_string(self.body)
            .render(values)
        )

    def trim(self, text: str) -> str:
        """The text up to the first stop sequence, stripped."""
        cuts = [text.index(stop) for stop in self.settings["stop"] if stop in text]
        return text[: min(cuts, default=len(text))].strip()

    def runs_away(self, text: str) -> bool:
        """Whether the raw text holds the header of a next record."""
        return any(delimiter in text for delimiter in self.settings["delimiters"])


def read_prompt(path: Path) -> Prompt:
    """The prompt in a Markdown file with YAML front matter."""
    _, front, body = path.read_text("utf-8").split("---\n", 2)
    return Prompt(dict(YAML(typ="safe").load(front)), body.removesuffix("\n"))


@dataclass(frozen=True, slots=True)
class Output:
    """Raw text up to and including the stop sequence, and how it ended."""

    text: str
    tokens: int
    hit_limit: bool


class TinyModel:
    """A model folder with its tokenizer, in 32 bits on the CPU."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(
            folder, padding_side="left"
        )
        self.model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    def _batches(self, texts: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            yield dict(self.tokenizer(batch, return_tensors="pt", padding=True))

    def complete(
        self, texts: Sequence[str], stop: list[str], max_tokens: int, **sampling: Any
    ) -> list[Output]:
        """One completion per text; greedy unless a positive `temperature` is given."""
        heat = sampling.get("temperature", 0)
        knobs = {**sampling, "do_sample": True, "top_k": 0} if heat else {"do_sample": False}
        outputs = []
        for batch in self._batches(texts):
            ids = self.model.generate(
                **batch,
                **knobs,
                max_new_tokens=max_tokens,
                stop_strings=stop,
                tokenizer=self.tokenizer,
            )
            outputs += [
                self._read(row, stop, max_tokens)
                for row in ids[:, batch["input_ids"].shape[1] :].tolist()
            ]
        return outputs

    def _read(self, ids: list[int], stop: list[str], max_tokens: int) -> Output:
        ends = [
            ids.index(token)
            for token in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
            if token in ids
        ]
        kept = ids[: min(ends, default=len(ids))]
        text = self.tokenizer.decode(kept)
        stopped = bool(ends) or any(sequence in text for sequence in stop)
        return Output(text, len(kept), len(kept) >= max_tokens and not stopped)

    @torch.inference_mode()
    def choose(self, texts: Sequence[str]) -> list[float]:
        """log P(" A") − log P(" B") right after each text, in nats."""
        first, second = (self.tokenizer.encode(label)[0] for label in (" A", " B"))
        scores: list[float] = []
        for batch in self._batches(texts):
            logits = self.model(**batch).logits[:, -1]
            scores += (logits[:, first] - logits[:, second]).tolist()
        return scores

    def judge(self, prompt: Prompt, rows: Sequence[dict[str, str]]) -> list[float]:
        """The critic's score of each row: positive minus negative, both orders' mean, nats."""
        yes, no = prompt.settings["positive"], prompt.settings["negative"]
        straight = self.choose([prompt.render(**row, a=yes, b=no) for row in rows])
        swapped = self.choose([prompt.render(**row, a=no, b=yes) for row in rows])
        return [(one - other) / 2 for one, other in zip(straight, swapped, strict=True)]
