"""LiteLLM as it comes, its retries off."""

from __future__ import annotations

import asyncio
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from report import Stopwatch, read_rows


async def main(url: str, rows: str, concurrency: int) -> None:
    waiting, answers = iter(read_rows(rows)), []

    async def work() -> None:
        for prompt in waiting:
            reply = await litellm.acompletion(
                model="hosted_vllm/bench",
                api_base=url,
                api_key="none",
                messages=[{"role": "user", "content": prompt}],
                temperature=0.7,
                max_tokens=512,
                num_retries=0,
                max_retries=0,
            )
            answers.append(reply.choices[0].message.content)

    watch = Stopwatch()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    watch.show(len(answers))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
