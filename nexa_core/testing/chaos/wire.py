"""HTTP/1.1 for the chaos server: requests read from a socket, replies sent whole, in pieces or cut.

Written on asyncio's protocols, since a server under load must not be what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Connection", "Exchange", "Head"]

_BIGGEST = 512 << 20
_PIECES = 20


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of a request; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int
    chunked: bool
    keeps_alive: bool


class Exchange(Protocol):
    """What serves a request; it must end in exactly one send, drip, cut or abort of the connection."""

    def __call__(self, connection: Connection, head: Head, body: bytes) -> None: ...


@lru_cache(maxsize=4096)
def read_head(data: bytes) -> Head:
    """Requests of one client differ in little more than their length: most heads were seen before.

    Raises:
        ValueError: it is no head of HTTP/1.
    """
    first, *lines = data.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    url = urlsplit(target)
    wish = headers.get("connection", "").lower()
    keeps_alive = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    length = int(headers.get("content-length", 0))
    if not 0 <= length <= _BIGGEST:
        raise ValueError("The body is too large.")
    query = dict(parse_qsl(url.query))
    return Head(method, url.path, query, headers, length, chunked, keeps_alive)


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, what comes early waits."""

    def __init__(self, serve: Exchange, members: set[Connection]) -> None:
        self._serve, self._members = serve, members
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._buffer = bytearray()
        self._busy = False
        self._keeps_alive = True
        self._told: Callable[[bool], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._members.discard(self)
        self._tell(False)

    def resume_writing(self) -> None:
        self._tell(True)

    def data_received(self, data: bytes) -> None:
        if self._busy or self._buffer or not self._serve_whole(data):
            self._buffer += data
            self._read_next()

    def send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        told: Callable[[bool], None] | None = None,
    ) -> None:
        """Send a whole reply; `told` hears whether the kernel took all of it."""
        self._write(self._frame(status, len(body), headers) + body, told)
        self._end()

    def cut(self, body: bytes, told: Callable[[bool], None] | None = None) -> None:
        """Promise the whole body, send the first half, and close."""
        self._write(self._frame(200, len(body), None) + body[: len(body) // 2], None)
        self._transport.close()
        if told:
            told(False)

    def abort(self, told: Callable[[bool], None] | None = None) -> None:
        """Break the connection without another byte: a reset."""
        if not self._transport.is_closing():
            self._transport.abort()
        if told:
            told(False)

    def hang(self, told: Callable[[bool], None]) -> None:
        """Say nothing at all until the client goes, or somebody closes."""
        if self._transport.is_closing():
            told(False)
        else:
            self._told = told

    async def drip(
        self, body: bytes, seconds: float, told: Callable[[bool], None] | None = None
    ) -> None:
        """Send a whole reply in pieces, over `seconds`."""
        data = self._frame(200, len(body), None) + body
        size = -(-len(data) // _PIECES)
        for start in range(0, len(data) - size, size):
            if self.is_lost:
                break
            self._transport.write(data[start : start + size])
            await asyncio.sleep(seconds / _PIECES)
        self._write(data[(_PIECES - 1) * size :], told)
        self._end()

    @property
    def is_lost(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def _write(self, data: bytes, told: Callable[[bool], None] | None) -> None:
        if self._transport.is_closing():
            if told:
                told(False)
            return
        self._transport.write(data)
        if told is None:
            return
        if self._transport.get_write_buffer_size() == 0:
            told(not self._transport.is_closing())
        else:
            self._told = told

    def _tell(self, flushed: bool) -> None:
        if self._told is not None:
            told, self._told = self._told, None
            told(flushed)

    def _end(self) -> None:
        self._busy = False
        if not self._keeps_alive:
            self._transport.close()
        elif self._buffer:
            self._read_next()

    def _read_next(self) -> None:
        if self._busy:
            return
        try:
            request = self._take()
        except ValueError:
            self._keeps_alive = False
            self.send(400, b'{"error": {"message": "No HTTP request that can be read."}}')
            return
        if request is not None:
            self._busy, self._keeps_alive = True, request[0].keeps_alive
            self._serve(self, *request)

    def _serve_whole(self, data: bytes) -> bool:
        """Serve what is exactly one request, as nearly all data is, without copying it."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        try:
            head = read_head(data[:end])
        except ValueError:
            return False
        if head.chunked or len(data) != end + 4 + head.length:
            return False
        self._busy, self._keeps_alive = True, head.keeps_alive
        self._serve(self, head, data[end + 4 :])
        return True

    def _take(self) -> tuple[Head, bytes] | None:
        """The next whole request of the buffer, None where it is not whole yet."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, start = read_head(bytes(buffer[:end])), end + 4
        if head.chunked:
            return self._take_chunks(head, start)
        if len(buffer) < start + head.length:
            if "expect" in head.headers and len(buffer) == start:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(buffer[start : start + head.length])
        del buffer[: start + head.length]
        return head, body

    def _take_chunks(self, head: Head, at: int) -> tuple[Head, bytes] | None:
        parts: list[bytes] = []
        while True:
            line = self._buffer.find(b"\r\n", at)
            if line < 0:
                return None
            size = int(bytes(self._buffer[at:line]).partition(b";")[0], 16)
            at = line + 2 + size + 2
            if len(self._buffer) < at:
                return None
            if size == 0:
                del self._buffer[:at]
                return head, b"".join(parts)
            parts.append(bytes(self._buffer[line + 2 : at - 2]))

    def _frame(self, status: int, length: int, headers: Mapping[str, str] | None) -> bytes:
        if headers is None and self._keeps_alive and status == 200:
            return b"%s%d\r\n\r\n" % (_PLAIN, length)
        lines = {"Content-Type": "application/json", **(headers or {})}
        if not self._keeps_alive:
            lines["Connection"] = "close"
        phrase = HTTPStatus(status).phrase if status in _STATUSES else "Overloaded"
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {status} {phrase}\r\n{text}Content-Length: {length}\r\n\r\n".encode()


_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
_STATUSES = {status.value for status in HTTPStatus}
