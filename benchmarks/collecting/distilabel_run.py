"""distilabel: its own OpenAI class, batches as large as the concurrency, no cache."""

from __future__ import annotations

import sys

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
from report import Stopwatch, read_rows


def main(url: str, rows: str, concurrency: int) -> None:
    data = [{"instruction": prompt} for prompt in read_rows(rows)]
    with Pipeline(name="bench") as pipeline:
        model = OpenAILLM(
            model="bench",
            base_url=url,
            api_key="none",
            max_retries=0,
            generation_kwargs={"temperature": 0.7, "max_new_tokens": 512},
        )
        load = LoadDataFromDicts(data=data, batch_size=concurrency)
        answer = TextGeneration(llm=model, input_batch_size=concurrency)
        load >> answer
    watch = Stopwatch()
    done = pipeline.run(use_cache=False)
    watch.show(sum(bool(row["generation"]) for row in done["default"]["train"]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
