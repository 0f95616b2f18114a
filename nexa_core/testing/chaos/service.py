"""What happens to a request: checked, refused or worked on, answered or spoiled, and logged."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from time import time
from typing import Any

from nexa_core.testing.chaos.answers import uniform
from nexa_core.testing.chaos.batches import BatchDesk
from nexa_core.testing.chaos.capacity import Throttle
from nexa_core.testing.chaos.faults import UNBILLED, FaultDraw
from nexa_core.testing.chaos.record import Entry, Log
from nexa_core.testing.chaos.replies import Ask, Reply, Writer, read_ask, read_mode
from nexa_core.testing.chaos.settings import Settings
from nexa_core.testing.chaos.wire import Connection, Head

__all__ = ["Service"]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_COMPLETIONS = {"/v1/chat/completions": True, "/v1/completions": False}
_STATUSES = {"error_500": 500, "error_502": 502, "error_503": 503, "error_529": 529}
_FORMS = {
    "schema": "'response_format' of type 'json_schema'",
    "object": "'response_format' of type 'json_object'",
    "tool": "'tool_choice'",
    "plain": "A prompt alone",
}
_PAGE = b"<!doctype html><html><body><h1>Bad gateway</h1></body></html>"


@dataclass(slots=True)
class _Visit:
    """A request under way, and what will be logged of it."""

    connection: Connection
    number: int
    path: str
    at: float
    in_flight: int
    keyed: bool
    key: bytes = b""
    fault: str | None = None
    reply: Reply | None = None
    works: bool = False


class Service:
    """Serves requests by settings that may change while it does."""

    def __init__(self, settings: Settings, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self.settings, self.log, self.loop = settings, log, loop
        self.started_at = loop.time()
        self.origin = ""
        self._throttle = Throttle(settings.capacity, loop.time)
        self._draw = FaultDraw(settings.faults, settings.seed, settings.most_faults)
        self._writer = Writer(settings)
        self._batches = BatchDesk(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0

    @property
    def draw(self) -> FaultDraw:
        return self._draw

    @property
    def writer(self) -> Writer:
        return self._writer

    def apply(self, settings: Settings) -> None:
        """Go on with other settings; what is under way keeps what it began with."""
        before, self.settings = self.settings, settings
        if settings.faults != before.faults or settings.most_faults != before.most_faults:
            self._draw = FaultDraw(settings.faults, settings.seed, settings.most_faults)
        if settings.capacity != before.capacity:
            self._throttle.change(settings.capacity)
        self._writer = Writer(settings)

    async def close(self) -> None:
        """End what drips."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def serve(self, connection: Connection, head: Head, body: bytes) -> None:
        """Serve one request; the log hears of every one but the control's."""
        if head.path.startswith("/_chaos"):
            self._control(connection, head, body)
            return
        self._in_flight += 1
        stats = self.log.stats
        stats.most_in_flight = max(stats.most_in_flight, self._in_flight)
        now = self.loop.time() - self.started_at
        keyed = "authorization" in head.headers
        number = stats.requests + self._in_flight
        visit = _Visit(connection, number, head.path, now, self._in_flight, keyed)
        key = self.settings.key
        if key is not None and head.headers.get("authorization") != f"Bearer {key}":
            self._refuse(visit, 401, "Incorrect API key provided.", "invalid_api_key")
            return
        try:
            self._route(visit, head, body)
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            self._refuse(visit, 400, f"{type(cause).__name__}: {cause}")

    def _route(self, visit: _Visit, head: Head, body: bytes) -> None:
        chat = _COMPLETIONS.get(head.path)
        if chat is not None and head.method == "POST":
            self._complete(visit, read_ask(body, chat))
        elif head.path == "/v1/models" and head.method == "GET":
            names = self.settings.models or ("chaos",)
            listed = [{"id": name, "object": "model", "owned_by": "nexa"} for name in names]
            self._send(visit, 200, {"object": "list", "data": listed})
        else:
            found = self._batches.serve(head, body)
            if found is None:
                self._refuse(visit, 404, f"No such address: {head.method} {head.path}")
            elif isinstance(found, bytes):
                headers = {"Content-Type": "application/octet-stream"}
                visit.connection.send(200, found, headers, self._teller(visit, 200))
            else:
                self._send(visit, *found)

    def _complete(self, visit: _Visit, ask: Ask) -> None:
        settings, visit.key = self.settings, ask.key
        if settings.models and ask.body.get("model") not in settings.models:
            problem = f"The model '{ask.body.get('model')}' does not exist."
            self._refuse(visit, 404, problem, "model_not_found")
            return
        mode = read_mode(ask.body)
        if mode not in settings.modes:
            self._refuse(visit, 400, f"{_FORMS[mode]} is not supported by this model.")
            return
        visit.fault = None if self._draw.is_idle else self._draw.draw_try(ask.key)
        if visit.fault in UNBILLED:
            self._fail_early(visit)
            return
        tokens = ask.prompt_tokens + (ask.max_tokens or 0)
        wait = self._throttle.refuse(tokens, settings.retry_after)
        if wait is not None:
            visit.fault = "capacity"
            headers = {"Retry-After": f"{max(wait, 0.001):.3f}", **self._quota()}
            self._refuse(visit, 429, "Rate limit reached.", "rate_limit_exceeded", headers)
            return
        content = None if self._draw.is_idle else self._draw.draw_content(ask.key)
        visit.reply = self._writer.write(ask, content)
        visit.fault = visit.fault or content
        self._throttle.enter(partial(self._work, visit))

    def _fail_early(self, visit: _Visit) -> None:
        """What a provider says before it begins to work."""
        fault = visit.fault or ""
        if fault == "redirect":
            target = (self.settings.redirect_to or self._other_name()) + visit.path
            visit.connection.send(307, b"", {"Location": target}, self._teller(visit, 307))
        elif fault in _STATUSES:
            status = _STATUSES[fault]
            self._refuse(visit, status, "The server is overloaded.", "server_error")
        else:
            waits = {
                "rate_limit": {"Retry-After": f"{self.settings.retry_after:g}"},
                "rate_limit_date": self._dates(),
            }
            headers = {**waits.get(fault, {}), **self._quota()}
            self._refuse(visit, 429, "Rate limit reached.", "rate_limit_exceeded", headers)

    def _work(self, visit: _Visit) -> None:
        settings, reply = self.settings, visit.reply
        assert reply is not None
        visit.works = True
        seconds = settings.latency + settings.token_seconds * reply.completion_tokens
        if settings.jitter:
            seconds += settings.jitter * uniform(visit.key + b"%d" % visit.number)
        if visit.fault == "slow_first_byte":
            seconds += settings.slow_seconds
        if seconds:
            self.loop.call_later(seconds, self._deliver, visit, reply)
        else:
            self._deliver(visit, reply)

    def _deliver(self, visit: _Visit, reply: Reply) -> None:
        """Hand out a reply that is paid for, or what the fault makes of it."""
        connection, fault = visit.connection, visit.fault
        body, told = reply.data, self._teller(visit, 200)
        if fault == "gzip":
            connection.send(200, gzip.compress(body, 1), {"Content-Encoding": "gzip"}, told)
        elif fault == "error_502":
            self._refuse(visit, 502, "Bad gateway.", "server_error")
        elif fault == "html":
            connection.send(200, _PAGE, {"Content-Type": "text/html"}, told)
        elif fault == "cut":
            connection.cut(body, told)
        elif fault == "reset":
            connection.abort(self._teller(visit, 0))
        elif fault == "hung":
            connection.hang(self._teller(visit, 0))
            self.loop.call_later(self.settings.hang_seconds, connection.close)
        elif fault == "slow_drip":
            task = self.loop.create_task(connection.drip(body, self.settings.slow_seconds, told))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            connection.send(200, spoil(body, fault), self._quota() or None, told)

    def _control(self, connection: Connection, head: Head, body: bytes) -> None:
        """`GET /_chaos` tells the sums, `GET /_chaos/log` the log, `POST /_chaos` changes settings."""
        if head.path == "/_chaos/log":
            lines = [json.dumps(entry._asdict()) for entry in self.log]
            connection.send(200, "\n".join(lines).encode(), {"Content-Type": "application/jsonl"})
            return
        if head.method == "POST":
            try:
                self.apply(self.settings.changed(json.loads(body)))
            except (ValueError, TypeError) as cause:
                connection.send(400, json.dumps({"error": {"message": str(cause)}}).encode())
                return
        self.log.flush()
        connection.send(200, json.dumps(self.tell_stats()).encode())

    def tell_stats(self) -> dict[str, Any]:
        """The sums as they are at this moment."""
        stats = self.log.stats
        stats.in_flight, stats.queued = self._in_flight, self._throttle.queued
        return stats.as_json()

    def record(self, reply: Reply, key: bytes, path: str, status: int, fault: str | None) -> None:
        """Log one line of a batch: work without a connection of its own."""
        now = self.loop.time() - self.started_at
        visit = _Visit(None, self.log.stats.requests + 1, path, now, 0, True, key, fault, reply)  # type: ignore[arg-type]
        self._log(visit, status, True)

    def _refuse(
        self,
        visit: _Visit,
        status: int,
        message: str,
        code: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = {"error": {"message": message, "type": code, "param": None, "code": code}}
        self._send(visit, status, body, headers)

    def _send(
        self,
        visit: _Visit,
        status: int,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        told = self._teller(visit, status)
        visit.connection.send(status, _encode(body).encode(), headers, told)

    def _teller(self, visit: _Visit, status: int) -> Callable[[bool], None]:
        return partial(self._close, visit, status)

    def _close(self, visit: _Visit, status: int, flushed: bool) -> None:
        self._in_flight -= 1
        self._log(visit, status, flushed)
        if visit.works:
            self._throttle.leave()

    def _log(self, visit: _Visit, status: int, flushed: bool) -> None:
        reply = visit.reply
        now = self.loop.time() - self.started_at
        entry = Entry(
            visit.number,
            visit.key.hex(),
            visit.path,
            visit.at,
            now - visit.at,
            status,
            visit.fault,
            flushed,
            reply.bill if reply else 0,
            reply.prompt_tokens if reply else 0,
            reply.completion_tokens if reply else 0,
            visit.in_flight,
            visit.keyed,
        )
        self.log.add(entry)

    def _quota(self) -> dict[str, str]:
        if not self.settings.rate_headers:
            return {}
        capacity, headers = self._throttle.capacity, {}
        limits = {"requests": capacity.requests_per_second, "tokens": capacity.tokens_per_second}
        for name, limit in limits.items():
            left = self._throttle.left(name)
            if limit is not None and left is not None:
                headers[f"x-ratelimit-limit-{name}"] = f"{limit:g}"
                headers[f"x-ratelimit-remaining-{name}"] = str(left)
                headers[f"x-ratelimit-reset-{name}"] = f"{(limit - left) / limit:.3f}s"
        return headers

    def _dates(self) -> dict[str, str]:
        """Now, and when to come again, as HTTP dates, which know whole seconds only."""
        now, wait = time(), math.ceil(self.settings.retry_after)
        dates = {"Date": now, "Retry-After": now + wait}
        return {name: formatdate(at, usegmt=True) for name, at in dates.items()}

    def _other_name(self) -> str:
        """This server under another host name: to a client another host altogether."""
        return self.origin.replace("127.0.0.1", "localhost")


def spoil(body: bytes, fault: str | None) -> bytes:
    """A reply's body as the fault leaves it."""
    if fault == "invalid_json":
        return body[: len(body) * 2 // 3] + b'"}}'
    if fault == "wrong_shape":
        return b'{"object": "list", "data": []}'
    if fault == "error_200":
        error = {"message": "Provider returned error", "code": 502, "type": "server_error"}
        return _encode({"error": error}).encode()
    return body
