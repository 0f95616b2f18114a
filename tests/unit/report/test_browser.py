"""The report in a real browser: it opens without a complaint and asks for nothing."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nexa_core.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A real server on loopback: its address, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    listening.server_close()


def open_page(path: Path, profile: Path) -> list[str]:
    """What the browser says on its console while it shows the page."""
    command = [CHROMIUM, *FLAGS, "--enable-logging=stderr", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "</html>" in done.stdout, done.stderr
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def attack(address: str) -> str:
    """Text that would ask the server, and speak on the console, were it taken for markup."""
    return (
        f"<script>console.error('ran'); fetch('{address}/fetch')</script><img src='{address}/img'>"
        f"<link rel=stylesheet href='{address}/css'><iframe src='{address}/frame'></iframe>"
        f"<p style=\"background: url('{address}/url')\">x</p>"
    )


def test_hostile_rows_ask_for_nothing_and_run_nothing(
    build: Any, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    """No request leaves the page and nothing is said on its console."""
    address, asked = server
    builder = build(text=attack(address))
    for stage in (builder.pilot, builder.scale, builder.package, builder.train, builder.evaluate):
        stage()
    page = write_report(*builder.finish())
    assert open_page(page, tmp_path / "profile") == []
    assert asked == []


def test_the_same_text_as_markup_would_be_noticed(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    """The browser and the server of these tests do see an attack that works."""
    address, asked = server
    page = tmp_path / "open.html"
    page.write_text(f"<!doctype html><title>x</title>{attack(address)}")
    assert any("ran" in line for line in open_page(page, tmp_path / "profile"))
    assert {"/img", "/css", "/frame"} <= set(asked)
