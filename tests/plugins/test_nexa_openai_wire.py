"""HTTP as servers really speak it: framings, cuts at every byte, connections kept and lost."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa_openai.wire import BrokenReplyError, NoConnectionError, ReplyTooLargeError, Wire

BODY = b'{"choices": []}'
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    b'5;a=b\r\n{"cho\r\nA\r\nices": []}\r\n0\r\nTrailer: t\r\n\r\n'
)
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH


class Server:
    """Answers each request with the next pieces of bytes; counts connections and requests."""

    def __init__(self) -> None:
        self.connections = self.requests = 0
        self.pieces: Sequence[bytes] = [LENGTH]
        self.closes = False
        self.asked = asyncio.Event()
        self.wire: Any = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.asked.set()
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def ask(self) -> bytes:
        return (await self.wire.ask(b"POST / HTTP/1.1\r\n\r\n")).body


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Starts a server with these pieces as its answer and gives it, with a wire to it."""
    opened: list[Any] = []

    async def start(*pieces: bytes, closes: bool = False, **settings: Any) -> Server:
        server = Server()
        server.pieces, server.closes = pieces or server.pieces, closes
        listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        server.wire = Wire(url, **({"seconds": 5, "connect_seconds": 2, "most": 1000} | settings))
        opened.append((listening, server))
        return server

    yield start
    for listening, server in opened:
        server.wire.close()
        listening.close()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, INTERIM, TO_THE_END])
async def test_a_reply_may_come_in_any_pieces(serve: Any, answer: bytes) -> None:
    """Cut in two at every byte, it is the same reply."""
    for at in range(1, len(answer), 3):
        server = await serve(answer[:at], answer[at:], closes=answer is TO_THE_END)
        assert await server.ask() == BODY
        server.wire.close()


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, INTERIM])
async def test_a_connection_is_used_again(serve: Any, answer: bytes) -> None:
    """One connection for requests after each other, as many as there are at once."""
    server = await serve(answer)
    for _ in range(3):
        assert await server.ask() == BODY
    assert (server.connections, server.requests) == (1, 3)
    await asyncio.gather(*(server.ask() for _ in range(20)))
    assert server.connections == 20 and len(server.wire.idle) == 20


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH.replace(b"15\r\n", b"15\r\nConnection: close\r\n"),
        LENGTH + b"more than was announced",
        TO_THE_END,
    ],
)
async def test_a_doubtful_connection_is_not(serve: Any, answer: bytes) -> None:
    """Where the server closes, or sent what nobody asked for, the next request opens its own."""
    server = await serve(answer, closes=answer is TO_THE_END)
    assert [await server.ask(), await server.ask()] == [BODY, BODY]
    assert server.connections == 2


async def test_an_idle_connection_that_was_closed_is_not_taken(serve: Any) -> None:
    """The next request goes over a new one, and nothing is lost."""
    server = await serve(closes=True)
    assert await server.ask() == BODY
    await asyncio.sleep(0.05)
    assert await server.ask() == BODY and server.connections == 2


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
async def test_a_cut_reply_is_never_whole(serve: Any, answer: bytes) -> None:
    """At whatever byte the connection ends, the reply is broken, and its part is kept."""
    for at in range(0, len(answer) - 1, 3):
        server = await serve(answer[:at], closes=True)
        with pytest.raises(BrokenReplyError) as caught:
            await server.ask()
        assert at < len(answer) - 8 or caught.value.part
        assert not server.wire.idle


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 200_000,
    ],
)
async def test_what_is_no_http_is_broken(serve: Any, answer: bytes) -> None:
    """And no such connection is used again."""
    server = await serve(answer)
    with pytest.raises(BrokenReplyError):
        await server.ask()
    assert not server.wire.idle


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100\r\n" + b"x" * 2000,
    ],
)
async def test_a_body_has_a_largest_size(serve: Any, answer: bytes) -> None:
    """Announced or not."""
    with pytest.raises(ReplyTooLargeError):
        await (await serve(answer)).ask()


async def test_a_packed_body_is_unpacked_within_the_limit(serve: Any) -> None:
    """Some servers pack although they were asked not to; a bomb stays packed."""
    for content, fits in ((BODY, True), (b"0" * 100_000, False)):
        packed = gzip.compress(content)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        server = await serve(head % len(packed) + packed)
        if fits:
            assert await server.ask() == content
        else:
            with pytest.raises(ReplyTooLargeError):
                await server.ask()


@pytest.mark.parametrize("packing", [b"gzip", b"br"])
async def test_a_body_that_does_not_unpack_is_broken(serve: Any, packing: bytes) -> None:
    """Wrongly packed, or in a way that was not asked for."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 3\r\n\r\nabc"
    with pytest.raises(BrokenReplyError, match="pack"):
        await (await serve(head % packing)).ask()


async def test_time_runs_from_when_it_is_sent(serve: Any) -> None:
    """A reply that drips is ended too, and its connection with it."""
    server = await serve(LENGTH[:-1], seconds=0.05)
    with pytest.raises(TimeoutError):
        await server.ask()
    assert not server.wire.idle


async def test_giving_up_closes_the_connection(serve: Any) -> None:
    """A reply that comes later meets nobody else's request."""
    server = await serve(LENGTH[:-1])
    task = asyncio.ensure_future(server.ask())
    await server.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.pieces = [LENGTH]
    assert await server.ask() == BODY and server.connections == 2


async def test_nobody_there() -> None:
    """Nothing was sent, for whatever reason."""
    for url in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
        with pytest.raises(NoConnectionError):
            await Wire(url, 1, 1, 1000).ask(b"")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost that nobody has signed."""
    if not shutil.which("openssl"):
        pytest.skip("makes its certificate with openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, cert


async def test_a_certificate_must_be_trusted(serve: Any, certificate: tuple[Path, Path]) -> None:
    """Over TLS a stranger's certificate is refused before anything is sent, a known one is taken."""
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await serve()
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    server.wire = Wire(url, 5, 5, 1000)
    with pytest.raises(ssl.SSLCertVerificationError):
        await server.ask()
    assert server.requests == 0
    server.wire._tls.load_verify_locations(cert)
    assert [await server.ask(), await server.ask()] == [BODY, BODY] and server.requests == 2
    listening.close()


async def test_a_body_that_does_not_unpack_leaves_others_alone(serve: Any) -> None:
    """Its connection is closed and taken by nobody, whoever waits for one in that instant."""
    broken = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"
    server = await serve(broken)
    bad = asyncio.ensure_future(server.ask())
    while not bad.done():
        assert not server.wire.idle
        await asyncio.sleep(0)
    assert isinstance(bad.exception(), BrokenReplyError)
    server.pieces = [LENGTH]
    assert await server.ask() == BODY


async def test_who_gives_up_late_ends_nobody_elses_request(serve: Any) -> None:
    """A reply came, its connection serves the next, and only then the first is cancelled."""
    server = await serve(LENGTH)
    await server.ask()
    (exchange,) = server.wire.idle
    server.wire.idle.clear()
    first = exchange.send(b"POST / HTTP/1.1\r\n\r\n")
    await first
    second = exchange.send(b"POST / HTTP/1.1\r\n\r\n")
    exchange.give_up(first)
    assert (await second).body == BODY
