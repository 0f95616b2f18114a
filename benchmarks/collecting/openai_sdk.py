"""OpenAI's SDK as it comes, its retries off."""

from __future__ import annotations

import asyncio
import sys

import openai
from report import Stopwatch, read_rows


async def main(url: str, rows: str, concurrency: int) -> None:
    waiting, answers = iter(read_rows(rows)), []
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def work() -> None:
        for prompt in waiting:
            reply = await client.chat.completions.create(
                model="bench",
                messages=[{"role": "user", "content": prompt}],
                temperature=0.7,
                max_tokens=512,
            )
            answers.append(reply.choices[0].message.content)

    watch = Stopwatch()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    watch.show(len(answers))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
