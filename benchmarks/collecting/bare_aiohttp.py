"""The least that collecting can be with aiohttp: a loop per connection, no records, no files."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from report import Stopwatch, read_rows


async def main(url: str, rows: str, concurrency: int) -> None:
    prompts = read_rows(rows)
    waiting, answers = iter(prompts), []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for prompt in waiting:
                body = {
                    "model": "bench",
                    "messages": [{"role": "user", "content": prompt}],
                    "temperature": 0.7,
                    "max_tokens": 512,
                }
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    answers.append((await reply.json())["choices"][0]["message"]["content"])

        watch = Stopwatch()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        watch.show(len(answers))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
