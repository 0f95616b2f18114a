"""How fast a local model answers: nexa's batches against transformers' own `generate`.

    python benchmarks/generate.py [--rows 256] [--rounds 3] [--threads 2] [--json]

The work is that of `pipelines/bootstrap.yaml`: few-shot response prompts with sampling and stop
strings, and critic prompts with two options. Every arm answers the same prompts. Rounds alternate,
so that all arms see the same machine; figures are medians over rounds of rows per second, wall
time and processor time, and of the ratio to `generate` in one batch within the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from nexa_core import Request, Role
from nexa_transformers.decoding import split_head
from nexa_transformers.model import LocalModel, build_local

ROOT = Path(__file__).parent.parent
KNOBS = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.05, "max_tokens": 80}
STOPS = ("\n###", "\nInstruction:", "\nResponse:", "\nInput:", "\nOutput:")
SINGLE_ROWS = 16
"""Rows of the arms that ask one at a time, which would take minutes for all."""


def read_prompts(name: str, rows: int) -> list[str]:
    """Prompts of a shipped prompt file, filled with the shipped questions and answers."""
    body = (ROOT / "prompts" / f"{name}.md").read_text("utf-8").split("---\n", 2)[2].rstrip("\n")
    lines = (ROOT / "plugins/nexa_tiny/data/answers.jsonl").read_text("utf-8").splitlines()
    filled = []
    for number in range(rows):
        row = {**json.loads(lines[number % len(lines)]), "a": "yes", "b": "no"}
        text = body
        for key, value in row.items():
            text = text.replace("{{ " + key + " }}", value)
        filled.append(text)
    return filled


class Library:
    """The same model asked through transformers alone."""

    def __init__(self, source: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)

    def generate(self, prompts: Sequence[str], **more: Any) -> int:
        """Completions of one batch; returns how many tokens the longest has."""
        batch = self.tokenizer(list(prompts), return_tensors="pt", padding=True)
        return self._generate(batch["input_ids"], batch["attention_mask"], **more)

    def generate_over_head(self, prompts: Sequence[str]) -> int:
        """The same with the cache of the shared head computed once and repeated for each row."""
        ids = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        shared = split_head(ids)
        cache = transformers.DynamicCache(config=self.model.config)
        with torch.inference_mode():
            self.model(torch.tensor([ids[0][:shared]]), past_key_values=cache)
        cache.batch_repeat_interleave(len(prompts))
        width = max(map(len, ids))
        rows = [[*row[:shared], *[0] * (width - len(row)), *row[shared:]] for row in ids]
        seen = [[1] * shared + [0] * (width - len(r)) + [1] * (len(r) - shared) for r in ids]
        return self._generate(torch.tensor(rows), torch.tensor(seen), past_key_values=cache)

    @torch.inference_mode()
    def choose(self, prompts: Sequence[str]) -> list[list[float]]:
        """Log-probabilities of two options by one forward pass of whole prompts."""
        batch = self.tokenizer(list(prompts), return_tensors="pt", padding=True)
        logits = self.model(**batch, logits_to_keep=1).logits[:, -1]
        return logits.log_softmax(-1)[:, :2].tolist()

    def _generate(self, ids: torch.Tensor, mask: torch.Tensor, **more: Any) -> int:
        out = self.model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=KNOBS["max_tokens"],
            stop_strings=list(STOPS),
            tokenizer=self.tokenizer,
            **{key: value for key, value in KNOBS.items() if key != "max_tokens"},
            **more,
        )
        return int(out.shape[1] - ids.shape[1])


def ask(prompts: Sequence[str]) -> list[Request]:
    return [Request(str(n), prompt, KNOBS, STOPS, n) for n, prompt in enumerate(prompts)]


def batches(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def list_arms(
    model: LocalModel, library: Library, rows: int
) -> dict[str, tuple[int, Callable[[], object]]]:
    """Each arm: how many rows it answers, and the call that does it."""
    responses, pairs = read_prompts("bootstrap/response", rows), read_prompts("critic/pair", rows)
    requests, critics = ask(responses), ask(pairs)

    async def one_by_one() -> None:
        for request in requests[:SINGLE_ROWS]:
            await model.complete(request)

    async def in_batches(size: int) -> None:
        for batch in batches(requests, size):
            await model.complete_many(batch)

    async def choose() -> None:
        for batch in batches(critics, 256):
            await model.choose_many(batch, [" A", " B"])

    return {
        "generate, one row at a time": (
            SINGLE_ROWS,
            lambda: [library.generate([p]) for p in responses[:SINGLE_ROWS]],
        ),
        "generate, batches of 128": (
            rows,
            lambda: [library.generate(b) for b in batches(responses, 128)],
        ),
        "generate, 128, head's cache repeated": (
            rows,
            lambda: [library.generate_over_head(b) for b in batches(responses, 128)],
        ),
        "nexa, one row at a time": (SINGLE_ROWS, lambda: asyncio.run(one_by_one())),
        "nexa, batches of 128": (rows, lambda: asyncio.run(in_batches(128))),
        "nexa, batches of 256": (rows, lambda: asyncio.run(in_batches(256))),
        "forward, critic, batches of 32": (
            rows,
            lambda: [library.choose(b) for b in batches(pairs, 32)],
        ),
        "nexa, critic, batches of 256": (rows, lambda: asyncio.run(choose())),
    }


def measure(arms: dict[str, tuple[int, Callable[[], object]]], rounds: int) -> list[dict[str, Any]]:
    """Median rows per second of wall and processor time, and the best wall figure, for each arm."""
    wall: dict[str, list[float]] = {name: [] for name in arms}
    processor: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, (rows, run) in arms.items():
            started, used = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round warms up
                wall[name].append(rows / (time.perf_counter() - started))
                processor[name].append(rows / (time.process_time() - used))
    return [
        {
            "arm": name,
            "rows_per_s": statistics.median(wall[name]),
            "best": max(wall[name]),
            "rows_per_cpu_s": statistics.median(processor[name]),
            "ratio": statistics.median(
                own / other
                for own, other in zip(processor[name], processor[_base(name)], strict=True)
            ),
        }
        for name in arms
    ]


def _base(arm: str) -> str:
    return "forward, critic, batches of 32" if "critic" in arm else "generate, batches of 128"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="local/nexa-tiny")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = build_local(Role(model=arguments.model, api="completions"))
    library = Library(model._loaded.model.config._name_or_path)
    results = measure(list_arms(model, library, arguments.rows), arguments.rounds)
    if arguments.json:
        print(json.dumps(results))
        return
    print(f"{'':38}{'rows/s':>9}{'best':>9}{'rows/cpu-s':>12}{'ratio':>8}")
    for row in results:
        print(
            f"{row['arm']:38}{row['rows_per_s']:9.1f}{row['best']:9.1f}"
            f"{row['rows_per_cpu_s']:12.1f}{row['ratio']:8.2f}"
        )


if __name__ == "__main__":
    main()
