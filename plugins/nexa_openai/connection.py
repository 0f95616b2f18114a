"""One try over HTTP: connections kept open, replies bounded, no redirect followed, no key shown."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp
from yarl import URL

from nexa_core import CallFailed, Charge, Failure, ModelError, NexaError
from nexa_openai.addresses import refuse_forbidden
from nexa_openai.failures import explain_refusal
from nexa_openai.keys import Secret

CONNECT_SECONDS = 10.0
KEEP_SECONDS = 4.0
"""Below the 5 s after which common servers close idle connections, or a request would meet that."""
MOST_BYTES = 64 << 20
_WARNED_ABOVE = 1 << 20
_WANTED_FILES = 16_384

Headers = Mapping[str, str]
_NO_HEADERS: Headers = {}


class Resolver(aiohttp.ThreadedResolver):
    """Resolves names as the system does, and refuses those that lead to forbidden addresses."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        found: list[Any] = await super().resolve(host, port, family)
        refuse_forbidden([one["host"] for one in found])
        return found


class Connection:
    """The connections to one endpoint, opened when first asked, in the running loop.

    What it raises carries no frame in which the key stands: errors are made after the block in
    which the request ran.
    """

    def __init__(
        self,
        url: str,
        whom: str,
        key: Secret,
        key_name: str | None,
        headers: Headers,
        seconds: float,
    ) -> None:
        self.url = url
        self._whom, self._key, self._key_name = whom, key, key_name
        self._headers, self._seconds = dict(headers), seconds
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paths: dict[str, URL] = {}

    async def post(self, path: str, body: bytes) -> tuple[bytes, Headers]:
        """The body and headers of the answer to a JSON body; errors as for `send`."""
        data = body if len(body) <= _WARNED_ABOVE else io.BytesIO(body)
        return await self.send("POST", path, data)

    async def send(
        self,
        method: Literal["GET", "POST"],
        path: str,
        data: Any = None,
        most: int = MOST_BYTES,
        **settings: Any,
    ) -> tuple[bytes, Headers]:
        """The body and headers of an answer with status 2xx.

        Raises:
            CallFailed: No answer, a part of one, a refusal, or more than `most` bytes.
            ModelError: What no further try can mend: the key, the model's name, a redirect.
        """
        session = self._session
        if session is None or self._loop is not asyncio.get_running_loop():
            session = self._open()
        url = self._paths.get(path) or self._add_path(path)
        chunks: list[bytes] = []
        failure: Exception | None = None
        status, headers = 0, _NO_HEADERS
        try:
            async with session.request(
                method, url, data=data, allow_redirects=False, **settings
            ) as response:
                status, headers = response.status, response.headers
                await _read(response.content, chunks, most)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as cause:
            failure = self._explain(cause, status, self._key.hide_in(b"".join(chunks)))
        body = self._key.hide_in(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        chunks.clear()
        if failure is not None:
            raise failure
        if not 200 <= status < 300:
            raise explain_refusal(status, body, headers, self._whom, self._key_name)
        return body, headers

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        raise_file_limit()
        self._loop = asyncio.get_running_loop()
        headers = {
            "Content-Type": "application/json",
            # Replies are small, and unpacking them costs more than it saves.
            "Accept-Encoding": "identity",
            "User-Agent": "nexa-core",
            **self._headers,
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_SECONDS, ttl_dns_cache=300, resolver=Resolver()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=self._seconds, sock_connect=min(CONNECT_SECONDS, self._seconds)
            ),
        )
        return self._session

    def _add_path(self, path: str) -> URL:
        url = URL(self.url + path)
        if len(self._paths) < 8:  # paths with ids in them are not kept
            self._paths[path] = url
        return url

    def _explain(self, cause: Exception, status: int, body: bytes) -> CallFailed | NexaError:
        text = body.decode("utf-8", "replace") or None
        if isinstance(
            cause, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError
        ):
            return ModelError(
                f"{self._whom} shows a certificate that is not trusted.",
                "Check the base_url, or install the authority's certificate.",
            )
        if isinstance(cause, aiohttp.InvalidURL):
            return ModelError(f"{self._whom} has an address that cannot be asked.", "Mend it.")
        if isinstance(cause, aiohttp.ConnectionTimeoutError):
            return CallFailed(Failure.CONNECTION, "no connection in time")
        if isinstance(cause, aiohttp.ClientConnectorError):
            reason = cause.os_error.strerror or str(cause.os_error) or "refused"
            return CallFailed(Failure.CONNECTION, f"no connection: {reason}")
        if isinstance(cause, TimeoutError):
            problem = f"no whole reply within {self._seconds:g} s"
            return CallFailed(Failure.TIMEOUT, problem, Charge.UNKNOWN, raw=text)
        if isinstance(cause, _TooLargeError):
            return CallFailed(Failure.BAD_REPLY, str(cause), Charge.UNKNOWN, status=status)
        problem = "the connection broke before the reply was whole"
        return CallFailed(
            Failure.CONNECTION, problem, Charge.UNKNOWN, status=status or None, raw=text
        )


class _TooLargeError(ValueError):
    pass


async def _read(content: aiohttp.StreamReader, chunks: list[bytes], most: int) -> None:
    size = 0
    while not content.at_eof():
        chunk = await content.readany()
        size += len(chunk)
        if size > most:
            chunks.clear()
            raise _TooLargeError(f"the reply is larger than {most >> 20} MB")
        if chunk:
            chunks.append(chunk)


def raise_file_limit() -> None:
    """Let this process hold as many connections as the system allows it to, up to 16,384."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
