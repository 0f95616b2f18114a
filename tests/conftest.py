"""What every test may use: a workspace of its own, and no network beyond this machine."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from nexa_core.shipped import scaffold

# Where bytecode is switched off, every worker would compile and rewrite every test, and each of a
# hundred programs that tests start the whole of nexa: half the time of the suite.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Workers share the cores: threads of one that wait in a loop would take them from the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A worker holds a million objects that stay: each look for cycles among all takes a quarter second.
gc.set_threshold(20_000, 20, 50)

# A busy machine is no failure. `--hypothesis-profile thorough` looks longer; .ci/run does.
settings.register_profile("nexa", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("nexa")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that load torch come first and together: one worker loads it, for all of them."""
    items.sort(key=lambda item: item.get_closest_marker("weights") is None)


DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def data_path() -> Path:
    """The folder of test inputs."""
    return DATA


@pytest.fixture
def workspace_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh workspace of the shipped files, which is the current folder."""
    scaffold(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a text to a path under the test's own folder and gives that path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture(scope="module")
def _kept() -> dict[str, tuple[Path, Any]]:
    """States of a test's folder that other tests of the module begin with, by name."""
    return {}


@pytest.fixture
def begin(
    tmp_path: Path, _kept: dict[str, tuple[Path, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Callable[[], Any]], Any]:
    """Brings the test's own folder into a named state: the first time it is made, later it is copied.

    Gives what `make` gave when the state was made. Paths in that are of the folder it was made in.
    """

    def bring(state: str, make: Callable[[], Any]) -> Any:
        if state in _kept:
            folder, told = _kept[state]
            shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        else:
            told, folder = make(), tmp_path_factory.mktemp("kept")
            shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
            _kept[state] = folder, told
        return told

    return bring


@pytest.fixture(autouse=True)
def _stay_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is a failure, and hubs are told so."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and host not in ("localhost", "::1") and not str(host).startswith("127."):
            raise OSError(f"tests stay offline: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect_locally)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("NEXA_CORE_DISABLE_PLUGINS", raising=False)
