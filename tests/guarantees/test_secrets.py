"""A key in the environment is found nowhere afterwards: not in a run, not in what was said."""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from nexa_core.engine import dispatch

KEY = "sk-canary-7Qw/Zx+Rt=9Vb3Nm"


class Echo(BaseHTTPRequestHandler):
    """Repeats the key that it is sent in everything that it answers, right or wrong."""

    protocol_version = "HTTP/1.1"
    ends: ClassVar[list[str]] = []
    keys: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self._send(200, json.dumps({"data": [{"id": "chaos", "owned_by": self._echo()}]}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        end = self.ends.pop(0) if self.ends else "answer"
        if end == "redirect":
            self._send(307, self._echo(), Location=f"http://127.0.0.1:9/?key={quote(self._key)}")
        elif end == "cut":
            self._send(200, self._echo(), cut=True)
        elif end == "html":
            self._send(200, f"<html>{self._echo()}</html>")
        elif end == "answer":
            self._send(200, self._answer())
        else:
            self._send(int(end), json.dumps({"error": {"message": f"no {self._echo()}"}}))

    def log_message(self, *_: Any) -> None:
        """Nothing: the server's own log is not nexa's."""

    @property
    def _key(self) -> str:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.keys.add(key)
        return key

    def _echo(self) -> str:
        return " ".join(write_forms(self._key))

    def _answer(self) -> str:
        message = {"role": "assistant", "content": f"You sent {self._echo()}."}
        usage = {"prompt_tokens": 5, "completion_tokens": 9}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"model": "chaos", "choices": [choice], "usage": usage})

    def _send(self, status: int, text: str, cut: bool = False, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body) + 99 * cut)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = cut


def write_forms(key: str) -> list[str]:
    """The key plain, URL-encoded and in base64, by itself and behind `Bearer `."""
    forms = [key, quote(key, safe="")]
    for text in (key, f"Bearer {key}"):
        forms += [b64encode(text.encode()).decode(), urlsafe_b64encode(text.encode()).decode()]
    return forms


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that repeats every key; the key is in the environment."""
    monkeypatch.setenv("CANARY_API_KEY", KEY)
    monkeypatch.setattr(dispatch, "BACKOFF_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(Echo, "ends", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Every logger of the process at its most talkative, into a file."""
    handler, root = logging.FileHandler(path), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def search(folder: Path, forms: list[str]) -> list[str]:
    """The files that hold a form of the key, Parquet as decoded text too."""
    import pyarrow.parquet as pq

    found = []
    for path in filter(Path.is_file, folder.rglob("*")):
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            text += json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False)
        found += [f"{path}: {form}" for form in forms if form in text]
    return found


FAULTS = ["500", "429", "cut", "html", "400", "503", "502"]


@pytest.mark.parametrize(
    ("ends", "code"), [(FAULTS, 0), (["answer", "401"], 4), (["answer", "redirect"], 4)]
)
def test_a_key_is_found_nowhere(shop: Any, echo: str, ends: list[str], code: int) -> None:
    """Run, reviews, report, log, tracebacks and output hold it 0 times: plain, URL-encoded, base64."""
    role = {"api_key_env": "CANARY_API_KEY", "concurrency": 1}
    shop.write(echo, 24, role=role, fail_over=0.5, scale={"rows": "all", "shard_rows": 6})
    Echo.ends.extend(ends)
    with logged_to(shop.root / "debug.log"):
        done = shop.collect("r", "--debug")
    (shop.root / "said").write_text(done.out + done.err)
    assert done.code == code, done.out
    assert KEY in Echo.keys and "Traceback" in done.err + "Traceback" * (code == 0)
    assert (shop.run().path / "report.html").exists() or code
    assert len(list(shop.root.rglob("*"))) > 8
    parts = [form[3:-4] for form in write_forms(KEY)]  # base64 ends as what comes after it does
    assert search(shop.root, parts) == []


def test_the_search_would_find_a_key(tmp_path: Path) -> None:
    """Each form, in text and in a Parquet file, is found."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    forms = write_forms(KEY)
    assert b64decode(forms[2]).decode() == KEY
    (tmp_path / "text").write_text(" ".join(forms))
    pq.write_table(pa.table({"a": forms}), tmp_path / "a.parquet")
    assert len(search(tmp_path, forms)) == 2 * len(forms)


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, "header 'Authorization'"),
        ({"headers": {"X-Team": "Bearer abcdefgh12345678"}}, "header 'X-Team'"),
        ({"headers": {"X-Service-Token": "abc"}}, "header 'X-Service-Token'"),
        ({"headers": {"X-Team": "sk-proj-4fGh7Kl2Mn5Pq8Rs1Tv"}}, "header 'X-Team'"),
        ({"base_url": f"http://127.0.0.1:9/v1?api_key={KEY}"}, "a base_url must not hold"),
        (
            {"base_url": f"http://me:{quote(KEY, safe='')}@127.0.0.1:9/v1"},
            "a base_url must not hold",
        ),
        ({"extra_body": {"api_key": KEY}}, "'api_key' in extra_body"),
        ({"headers": {"X-Team": KEY}}, "CANARY_API_KEY"),
        ({"extra_body": {"user": f"me-{KEY}"}}, "CANARY_API_KEY"),
    ],
)
def test_a_key_in_the_pipeline_is_refused(
    shop: Any, monkeypatch: pytest.MonkeyPatch, role: dict[str, Any], told: str
) -> None:
    """It would be written into every run: what to do instead is said, and the key is not."""
    monkeypatch.setenv("CANARY_API_KEY", KEY)
    shop.write("http://127.0.0.1:9/v1", role=role)
    done = shop.nexa("run", str(shop.file))
    assert done.code == 2, done.err
    assert told in done.err and "api_key_env" in done.err and "collect.yaml:" in done.err
    assert KEY not in done.err and not (shop.root / "artifacts").exists()


def test_names_of_usual_headers_are_no_keys(shop: Any, refuse: Callable[..., str]) -> None:
    """Versions, sites and betas may stand in headers."""
    headers = {"HTTP-Referer": "https://x.org", "X-Title": "keyboard", "OpenAI-Beta": "a=v2"}
    headers["X-Site"] = "skyscraper-gateway-production-7"
    shop.write("http://127.0.0.1:9/sk-ladders/v1?api-version=2", role={"headers": headers})
    assert "does not answer" in refuse()


@pytest.fixture
def refuse(shop: Any) -> Callable[..., str]:
    """Runs the pipeline, which must be refused, and gives what was said."""

    def collect() -> str:
        done = shop.nexa("run", str(shop.file))
        assert done.code == 2
        return str(done.err)

    return collect
