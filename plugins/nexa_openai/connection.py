"""One JSON call over the wire: the key in its head, shown nowhere; what went wrong as nexa says it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from nexa_core import CallFailed, Charge, Failure, ModelError, NexaError, PreflightError
from nexa_openai.failures import explain_refusal
from nexa_openai.keys import Secret
from nexa_openai.wire import BrokenReplyError, NoConnectionError, ReplyTooLargeError, Wire

CONNECT_SECONDS = 10.0
MOST_BYTES = 64 << 20
_WANTED_FILES = 16_384

Headers = Mapping[str, str]


class Head:
    """The head of a request, complete but for the length of its body; it does not print."""

    __slots__ = ("_start",)

    def __init__(self, url: str, path: str, headers: Headers) -> None:
        parts = urlsplit(url)
        target = quote(parts.path + path, safe="/%:@!$&'()*+,;=~")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._start = "\r\n".join([*lines, "Content-Length: "]).encode()

    def __repr__(self) -> str:
        return "Head(…)"

    def begin(self, body: bytes) -> bytes:
        """The whole request."""
        return b"%b%d\r\n\r\n%b" % (self._start, len(body), body)


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
        self.url, self.whom, self.key, self.key_name = url, whom, key, key_name
        self.seconds = seconds
        self._headers = check_headers(headers)
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heads: dict[str, Head] = {}

    async def post(self, path: str, body: bytes) -> tuple[bytes, Headers]:
        """The body and headers of the answer with status 2xx to a JSON body.

        Raises:
            CallFailed: No answer, a part of one, a refusal, or more than 64 MB.
            ModelError: What no further try can mend: the key, the model's name, a redirect.
        """
        wire = self._wire
        if wire is None or self._loop is not asyncio.get_running_loop():
            wire = self._open()
        head = self._heads.get(path) or self._add_head(path)
        failure: Exception | None = None
        try:
            status, headers, answer = await wire.ask(head.begin(body))
        except (OSError, BrokenReplyError, ReplyTooLargeError) as cause:
            failure = self._explain(cause)
        if failure is not None:
            raise failure
        if not 200 <= status < 300:
            answer = self.key.hide_in(answer)
            raise explain_refusal(status, answer, headers, self.whom, self.key_name)
        return self.key.hide_in_data(answer), headers

    async def aclose(self) -> None:
        """Close the connections."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
            await asyncio.sleep(0)  # the transports close in the loop's next round

    def write_headers(self) -> dict[str, str]:
        """The headers of every request, the key among them."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            # Replies are small, and unpacking them costs more than it saves.
            "Accept-Encoding": "identity",
            "User-Agent": "nexa-core",
        }
        own = {name.lower() for name in self._headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in own}
        key = {"Authorization": f"Bearer {self.key.reveal()}"} if self.key else {}
        return {**headers, **self._headers, **key}

    def _open(self) -> Wire:
        raise_file_limit()
        self._loop = asyncio.get_running_loop()
        patience = min(CONNECT_SECONDS, self.seconds)
        self._wire = Wire(self.url, self.seconds, patience, MOST_BYTES)
        return self._wire

    def _add_head(self, path: str) -> Head:
        self._heads[path] = Head(self.url, path, self.write_headers())
        return self._heads[path]

    def _explain(self, cause: Exception) -> CallFailed | NexaError:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ModelError(
                f"{self.whom} shows a certificate that is not trusted.",
                "Check the base_url, or install the authority's certificate.",
            )
        if isinstance(cause, NoConnectionError):
            return CallFailed(Failure.CONNECTION, f"no connection: {cause}")
        if isinstance(cause, TimeoutError):
            problem = f"no whole reply within {self.seconds:g} s"
            return CallFailed(Failure.TIMEOUT, problem, Charge.UNKNOWN)
        if isinstance(cause, ReplyTooLargeError):
            problem = f"the reply is larger than {MOST_BYTES >> 20} MB"
            return CallFailed(Failure.BAD_REPLY, problem, Charge.UNKNOWN)
        part, status = b"", None
        if isinstance(cause, BrokenReplyError):
            part, status = self.key.hide_in(cause.part), cause.status or None
        text = part.decode("utf-8", "replace") or None
        return CallFailed(Failure.CONNECTION, str(cause), Charge.UNKNOWN, status=status, raw=text)


def check_headers(headers: Headers) -> dict[str, str]:
    """The headers as a role gives them.

    Raises:
        PreflightError: A name or value would end the header it stands in.
    """
    for name, value in headers.items():
        if not name.isascii() or any(ord(c) < 32 or c == ":" for c in name):
            raise PreflightError(f"'{name}' is no name of a header.", "Use letters, digits and -.")
        if any(ord(c) < 32 and c != "\t" for c in value):
            raise PreflightError(
                f"The header '{name}' holds a control character.", "Write it on one line."
            )
    return dict(headers)


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
