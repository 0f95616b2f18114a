"""Asks whether the endpoints that pipelines name answer at all; no key is sent, no redirect followed."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Endpoint", "ask_endpoints"]

PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Endpoint:
    """What became of asking: how long the answer took, or why there was none."""

    url: str
    seconds: float = 0.0
    error: str = ""


def ask_endpoints(urls: Iterable[str]) -> list[Endpoint]:
    """Ask every URL at once, in the order given; any HTTP answer, also a refusal, is an answer."""
    asked = list(urls)
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(asked))) as pool:
        return list(pool.map(_ask, asked))


def _ask(url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Endpoint(url, error="is no http or https address")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    started = time.perf_counter()
    try:
        connection = kind(parts.hostname, parts.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("HEAD", f"{parts.path.rstrip('/')}/models")
            connection.getresponse()
        finally:
            connection.close()
    except TimeoutError:
        return Endpoint(url, error=f"no answer within {PATIENCE_SECONDS:g} s")
    except (OSError, http.client.HTTPException, ValueError) as cause:
        return Endpoint(
            url, error=f"cannot be reached: {getattr(cause, 'strerror', None) or cause}"
        )
    return Endpoint(url, time.perf_counter() - started)
