"""HTTP/1.1 for one endpoint over asyncio's own protocols: one request, one whole reply, no more.

aiohttp's client costs three times as much CPU per request as everything else that nexa does for it
(`benchmarks/collect.py`); this does the little that a JSON call needs: connections kept open, bodies by
length, in chunks or to the end (RFC 9112), and nothing else. Files and batches go through aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from nexa_openai.addresses import refuse_forbidden

KEEP_SECONDS = 4.0
"""Below the 5 s after which common servers close idle connections, or a request would meet that."""
RESOLVE_SECONDS = 300.0
MOST_HEAD_BYTES = 1 << 17
REPLIES_AT_ONCE = 32
"""Replies handed out in one round of the loop. With a thousand of them ready at once, a loop that
hands out all is deaf to timers, and to what is to be sent, for a third of a second."""


class Reply(NamedTuple):
    """A whole reply; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoConnectionError(OSError):
    """Nothing was sent."""


class BrokenReplyError(Exception):
    """The connection broke, or what came is no HTTP; `part` is the body as far as it came."""

    def __init__(self, problem: str, status: int = 0, part: bytes = b"") -> None:
        super().__init__(problem)
        self.status, self.part = status, part


class ReplyTooLargeError(Exception):
    """The body passed the limit and was not kept."""


class Wire:
    """The connections to one address; those that are idle are taken up again, the latest first."""

    def __init__(self, url: str, seconds: float, connect_seconds: float, most: int) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.seconds, self._connect_seconds, self.most = seconds, connect_seconds, most
        self.idle: deque[Exchange] = deque()
        self._whole: deque[tuple[asyncio.Future[Reply], Reply]] = deque()
        self._loop = asyncio.get_running_loop()
        self._asked: dict[Exchange, float] = {}
        """When the patience with each exchange under way ends: one patience, so the first asked first."""
        self._timer: asyncio.TimerHandle | None = None
        self._addresses: list[str] = []
        self._resolved_at = 0.0
        self._resolving: asyncio.Task[list[str]] | None = None

    async def ask(self, request: bytes) -> Reply:
        """Send a request, head and body, and wait for the whole reply.

        Raises:
            NoConnectionError: Nothing was sent.
            TimeoutError: The reply was not whole in time.
            BrokenReplyError, ReplyTooLargeError: There is no whole reply.
        """
        exchange = self._take_idle() or await self._connect()
        waiter = exchange.send(request)
        try:
            return await waiter
        except BaseException:
            exchange.give_up(waiter)
            raise

    def hand_out(self, waiter: asyncio.Future[Reply], reply: Reply) -> None:
        """Give a whole reply to who waits for it, in its turn."""
        if not self._whole:
            self._loop.call_soon(self._take_turn)
        self._whole.append((waiter, reply))

    def _take_turn(self) -> None:
        for _ in range(min(REPLIES_AT_ONCE, len(self._whole))):
            waiter, reply = self._whole.popleft()
            if not waiter.done():
                waiter.set_result(reply)
        if self._whole:
            self._loop.call_soon(self._take_turn)

    def await_reply(self, exchange: Exchange) -> None:
        """From now on the exchange has so many seconds to end. One timer serves them all."""
        self._asked[exchange] = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._expire)

    def end(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self._asked.pop(exchange, None)

    def _expire(self) -> None:
        self._timer = None
        for exchange, until in list(self._asked.items()):
            if until > self._loop.time():
                self._timer = self._loop.call_at(until, self._expire)
                return
            exchange.expire()

    def close(self) -> None:
        """Close every idle connection."""
        if self._timer is not None and not self._asked:
            self._timer.cancel()
            self._timer = None
        while self.idle:
            self.idle.pop().abort()

    def _take_idle(self) -> Exchange | None:
        now = time.monotonic()
        while self.idle:
            exchange = self.idle.pop()
            if exchange.is_usable(now):
                return exchange
            exchange.abort()
        return None

    async def _connect(self) -> Exchange:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._try_addresses(await self._resolve())
        except TimeoutError:
            raise NoConnectionError("no connection in time") from None

    async def _try_addresses(self, addresses: list[str]) -> Exchange:
        """The first address that answers, which is then tried first."""
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        problem: OSError = NoConnectionError("the name has no address")
        for address in list(addresses):
            try:
                async with asyncio.timeout(self._connect_seconds / len(addresses)):
                    _, exchange = await loop.create_connection(
                        lambda: Exchange(self),
                        address,
                        self._port,
                        ssl=self._tls,
                        server_hostname=name,
                    )
            except (OSError, TimeoutError) as cause:
                if isinstance(cause, ssl.SSLCertVerificationError):
                    raise
                problem = cause
            else:
                if addresses[0] != address:
                    addresses.remove(address)
                    addresses.insert(0, address)
                return exchange
        raise NoConnectionError(problem.strerror or str(problem) or "nothing answers")

    async def _resolve(self) -> list[str]:
        if self._addresses and time.monotonic() - self._resolved_at < RESOLVE_SECONDS:
            return self._addresses
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.ensure_future(self._look_up())
        self._addresses = await asyncio.shield(self._resolving)
        self._resolved_at = time.monotonic()
        return self._addresses

    async def _look_up(self) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
            refuse_forbidden(addresses)
        except OSError as cause:
            raise NoConnectionError(cause.strerror or str(cause)) from None
        return addresses


class Exchange(asyncio.Protocol):
    """One connection: sends a request, gathers the bytes of its reply, and is idle again."""

    __slots__ = (
        "_body_at",
        "_chunk_at",
        "_chunks",
        "_data",
        "_end",
        "_headers",
        "_idle_since",
        "_keep",
        "_loop",
        "_status",
        "_transport",
        "_waiter",
        "_wire",
    )

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self._idle_since = 0.0
        self._data: bytes | bytearray = b""
        self._status = self._body_at = 0
        self._headers: dict[str, str] = {}
        self._end: int | None = None
        self._chunk_at: int | None = None
        self._chunks: list[bytes] = []
        self._keep = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request on this idle connection; the future holds its reply."""
        self._begin()
        self._waiter = waiter = self._loop.create_future()
        self._wire.await_reply(self)
        if self._transport is None or self._transport.is_closing():
            self._fail(BrokenReplyError("the connection was closed"))
        else:
            self._transport.write(request)
        return waiter

    def is_usable(self, now: float) -> bool:
        """Whether the connection is open and was not idle for too long."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and now - self._idle_since < KEEP_SECONDS

    def give_up(self, waiter: asyncio.Future[Reply]) -> None:
        """Close the connection, unless it serves another request by now."""
        if self._waiter is waiter:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once; who waits for a reply has given up."""
        self._waiter = None
        self._wire.end(self)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # nobody asked
            return
        if self._data:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += data
        else:
            self._data = data
        try:
            self._read()
        except (ValueError, zlib.error) as cause:
            self._fail(BrokenReplyError(f"what came is no HTTP: {cause}", self._status))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is None:
            return
        if self._end is None and self._chunk_at is None and self._status and exc is None:
            self._keep = False
            self._finish(bytes(self._data[self._body_at :]), len(self._data))
            return
        self._fail(
            BrokenReplyError(
                "the connection broke before the reply was whole", self._status, self._part()
            )
        )

    def _begin(self) -> None:
        self._data = b""
        self._status = self._body_at = 0
        self._headers = {}
        self._end = self._chunk_at = None
        self._chunks = []
        self._keep = True

    def _read(self) -> None:
        while not self._status:
            if not self._read_head():
                return
        if self._end is not None:
            if len(self._data) >= self._end:
                self._finish(bytes(self._data[self._body_at : self._end]), self._end)
                return
        elif self._chunk_at is not None and self._read_chunks():
            return
        if len(self._data) - self._body_at > self._wire.most:
            self._fail(ReplyTooLargeError())

    def _read_head(self) -> bool:
        """Read status and headers where they are whole, and how the body ends."""
        at = self._data.find(b"\r\n\r\n", self._body_at)
        if at < 0:
            if len(self._data) > MOST_HEAD_BYTES:
                raise ValueError("a head without end")
            return False
        first, *lines = self._data[self._body_at : at].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"'{first[:40]}'")
        status = int(rest[:3])
        self._body_at = at + 4
        if 100 <= status < 200:
            return True  # an interim reply: the real one follows
        self._status = status
        headers = self._headers
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._frame_body(version)
        return True

    def _frame_body(self, version: str) -> None:
        headers = self._headers
        kept = headers.get("connection", "" if version == "HTTP/1.1" else "close").lower()
        self._keep = "close" not in kept
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunk_at = self._body_at
        elif self._status in (204, 304):
            self._end = self._body_at
        elif (length := headers.get("content-length")) is not None:
            if not length.isdigit():
                raise ValueError(f"a length of '{length[:20]}'")
            if int(length) > self._wire.most:
                self._fail(ReplyTooLargeError())
                return
            self._end = self._body_at + int(length)
        else:
            self._keep = False  # the body ends with the connection

    def _read_chunks(self) -> bool:
        """Take every whole chunk; True when the last was taken."""
        data, at = self._data, self._chunk_at
        assert at is not None
        while (line_end := data.find(b"\r\n", at)) >= 0:
            size = int(bytes(data[at:line_end]).partition(b";")[0], 16)
            start = line_end + 2
            if size == 0:
                end = (
                    start if data[start : start + 2] == b"\r\n" else data.find(b"\r\n\r\n", at) + 2
                )
                if len(data) < start + 2 or end < start:
                    break
                self._finish(b"".join(self._chunks), end + 2)
                return True
            if size < 0 or len(data) < start + size + 2:
                break
            self._chunks.append(bytes(data[start : start + size]))
            at = self._chunk_at = start + size + 2
        return False

    def _finish(self, body: bytes, end: int) -> None:
        waiter, self._waiter = self._waiter, None
        self._wire.end(self)
        reply: Reply | Exception
        try:
            encoding = self._headers.get("content-encoding")
            reply = Reply(self._status, self._headers, self._unpack(body, encoding))
        except (ReplyTooLargeError, BrokenReplyError) as cause:
            reply = cause
        if self._keep and len(self._data) == end and isinstance(reply, Reply):
            self._idle_since = time.monotonic()
            self._wire.idle.append(self)
        elif self._transport is not None:
            self._transport.close()
        if waiter is None or waiter.done():
            return
        if isinstance(reply, Reply):
            self._wire.hand_out(waiter, reply)
        else:
            waiter.set_exception(reply)

    def _unpack(self, body: bytes, encoding: str | None) -> bytes:
        """The body as it was before a server packed it unasked."""
        if not encoding or encoding == "identity":
            return body
        if encoding not in ("gzip", "deflate"):
            raise BrokenReplyError(f"the body is packed as '{encoding}'", self._status)
        unpacker = zlib.decompressobj(wbits=47)  # a gzip or zlib head says which
        try:
            whole = unpacker.decompress(body, self._wire.most)
        except zlib.error as cause:
            raise BrokenReplyError(f"the body does not unpack: {cause}", self._status) from None
        if unpacker.unconsumed_tail:
            raise ReplyTooLargeError
        return whole

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        self._wire.end(self)
        if self._transport is not None:
            self._transport.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def expire(self) -> None:
        """The reply is not whole in time."""
        self._fail(TimeoutError())

    def _part(self) -> bytes:
        if self._chunk_at is not None:
            return b"".join(self._chunks) + bytes(self._data[self._chunk_at :])
        return bytes(self._data[self._body_at :]) if self._status else b""
