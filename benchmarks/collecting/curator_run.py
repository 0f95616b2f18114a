"""Bespoke curator: its own backend for OpenAI, its cache in a fresh folder, its viewer off."""

from __future__ import annotations

import os
import sys
import tempfile

folder = tempfile.mkdtemp(prefix="curator-")
os.environ |= {
    "CURATOR_CACHE_DIR": folder,
    "HF_DATASETS_CACHE": folder,
    "CURATOR_VIEWER": "0",
    "TELEMETRY_ENABLED": "false",
    "OPENAI_API_KEY": "none",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
}

import tiktoken  # noqa: E402 - after the settings it reads


class FourCharacters:
    """Stands in for an encoding that would have to be downloaded."""

    name = "four-characters"

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * (len(text) // 4)


tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *_, **__: FourCharacters()

from bespokelabs import curator  # noqa: E402 - after the settings it reads
from datasets import Dataset  # noqa: E402 - after the settings it reads
from report import Stopwatch, read_rows  # noqa: E402 - after the settings it reads


class Answer(curator.LLM):
    def prompt(self, row: dict[str, str]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        return {**row, "response": response}


def main(url: str, rows: str, concurrency: int) -> None:
    data = Dataset.from_list([{"prompt": prompt} for prompt in read_rows(rows)])
    model = Answer(
        model_name="gpt-4o-mini",
        backend="openai",
        generation_params={"temperature": 0.7, "max_tokens": 512},
        backend_params={
            "base_url": url,
            "max_requests_per_minute": 100_000_000,
            "max_tokens_per_minute": 100_000_000_000,
            "max_concurrent_requests": concurrency,
            "max_retries": 0,
            "request_timeout": 120,
        },
    )
    watch = Stopwatch()
    done = model(data)
    found = getattr(done, "dataset", done)
    watch.show(sum(bool(row["response"]) for row in found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
