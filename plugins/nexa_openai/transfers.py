"""Files and what belongs to them, by aiohttp: uploads, downloads and lists, no redirect followed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp

from nexa_core import CallFailed, Charge, Failure
from nexa_openai.addresses import refuse_forbidden
from nexa_openai.coding import decode
from nexa_openai.connection import Connection
from nexa_openai.failures import explain_refusal

MOST_BYTES = 2 << 30
_PATIENCE = aiohttp.ClientTimeout(total=3600, sock_connect=10, sock_read=120)
"""For files of hundreds of megabytes."""


class Resolver(aiohttp.ThreadedResolver):
    """Resolves names as the system does, and refuses those that lead to forbidden addresses."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        found: list[Any] = await super().resolve(host, port, family)
        refuse_forbidden([one["host"] for one in found])
        return found


class Transfers:
    """Requests beside the calls themselves, with the same address, key and headers.

    Each opens a connection of its own: there are few of them, minutes apart.
    """

    def __init__(self, connection: Connection) -> None:
        self._to = connection

    async def ask(
        self, method: Literal["GET", "POST"], path: str, data: Any = None, content_type: str = ""
    ) -> Mapping[str, Any]:
        """The JSON object that is answered; errors as for `Connection.post`."""
        return decode(await self.send(method, path, data, content_type))

    async def send(
        self, method: Literal["GET", "POST"], path: str, data: Any = None, content_type: str = ""
    ) -> bytes:
        """The body that is answered; errors as for `Connection.post`."""
        chunks: list[bytes] = []
        failure: Exception | None = None
        status, answer_headers = 0, dict[str, str]()
        try:
            status, answer_headers = await self._send(method, path, data, content_type, chunks)
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            failure = _explain(cause)
        body = b"".join(chunks)
        chunks.clear()
        if failure is not None:
            raise failure
        if not 200 <= status < 300:
            body = self._to.key.hide_in(body)
            raise explain_refusal(status, body, answer_headers, self._to.whom, self._to.key_name)
        return self._to.key.hide_in_data(body)

    async def _send(
        self, method: str, path: str, data: Any, content_type: str, chunks: list[bytes]
    ) -> tuple[int, dict[str, str]]:
        headers = self._to.write_headers()
        if content_type:
            headers["Content-Type"] = content_type
        connector = aiohttp.TCPConnector(resolver=Resolver())
        async with (
            aiohttp.ClientSession(
                headers=headers, connector=connector, timeout=_PATIENCE
            ) as session,
            session.request(
                method, self._to.url + path, data=data, allow_redirects=False
            ) as answer,
        ):
            size = 0
            while not answer.content.at_eof():
                chunks.append(await answer.content.readany())
                size += len(chunks[-1])
                if size > MOST_BYTES:
                    chunks.clear()
                    raise ValueError(f"the file is larger than {MOST_BYTES >> 30} GB")
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}


def _explain(cause: Exception) -> CallFailed:
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return CallFailed(Failure.CONNECTION, "no connection")
    if isinstance(cause, asyncio.TimeoutError):
        return CallFailed(Failure.TIMEOUT, "no whole answer in time", Charge.UNKNOWN)
    return CallFailed(Failure.CONNECTION, f"{type(cause).__name__}: {cause}", Charge.UNKNOWN)
