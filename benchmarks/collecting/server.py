"""The model server of the benchmark: OpenAI's chat API by the fewest possible instructions.

    python server.py --latency 0.05

Prints its port. Replies are drawn from 512 texts of real length, each with a log-normal number of
characters around 1,400; `GET /stats` says how many were asked for and how many at most at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any

SENTENCES = (
    "The specific heat capacity of copper is 0.385 J/(g K), so it warms quickly.",
    "A beam that is fixed at both ends carries four times the load before it buckles.",
    "Because the reaction is reversible, removing the product shifts the equilibrium.",
    "Water expands by about nine per cent when it freezes, which is why pipes burst.",
    "The half-life does not depend on how much of the isotope is left.",
    "Fatigue cracks begin at the surface, so a polished part lives longer.",
    "The field falls with the square of the distance from a point charge.",
    "A catalyst lowers the barrier and leaves the energies of both sides as they are.",
)


def write_text(draw: random.Random, median: int) -> str:
    """Prose of about `median` characters."""
    wanted = int(median * draw.lognormvariate(0, 0.3))
    text = ""
    while len(text) < wanted:
        text += draw.choice(SENTENCES) + " "
    return text[:wanted]


def write_reply(draw: random.Random, number: int) -> bytes:
    """One whole HTTP reply with a chat completion in it."""
    text = write_text(draw, 1400)
    usage: dict[str, Any] = {"prompt_tokens": 160, "completion_tokens": len(text) // 4}
    usage |= {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}
    usage |= {"prompt_tokens_details": {"cached_tokens": 0}}
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {"id": f"chatcmpl-{number:08d}", "object": "chat.completion", "created": 1}
    body |= {"model": "bench", "choices": [choice], "usage": usage, "system_fingerprint": "fp"}
    return frame(body)


def frame(body: Any) -> bytes:
    """A JSON body as an HTTP reply."""
    data = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Service(asyncio.Protocol):
    """One connection; the class itself counts over all of them."""

    latency = 0.05
    replies: list[bytes] = []
    asked = under_way = most = 0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head)

    def answer(self, head: bytes) -> None:
        if head.startswith(b"post"):
            Service.asked += 1
            Service.under_way += 1
            Service.most = max(Service.most, Service.under_way)
            reply = self.replies[Service.asked % len(self.replies)]
            asyncio.get_running_loop().call_later(self.latency, self.send, reply)
        elif b"/stats" in head:
            self.transport.write(frame({"asked": Service.asked, "most": Service.most}))
        else:
            self.transport.write(frame({"object": "list", "data": [{"id": "bench"}]}))

    def send(self, reply: bytes) -> None:
        Service.under_way -= 1
        if not self.transport.is_closing():
            self.transport.write(reply)


async def serve(latency: float) -> None:
    """Serve until killed."""
    draw = random.Random(7)
    Service.latency = latency
    Service.replies = [write_reply(draw, number) for number in range(512)]
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def raise_file_limit() -> None:
    """Thousands of connections need as many files."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.05)
    raise_file_limit()
    asyncio.run(serve(parser.parse_args().latency))
