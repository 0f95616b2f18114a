"""G10: a long run needs no more memory than a short one, and is soon at work again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("growing.py")
CALLS = int(os.environ.get("NEXA_CORE_TEST_CALLS", "200000"))
MB = 1 << 20


def start(root: Path, *arguments: str, points: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NEXA_CORE_FAILPOINT": points}
    command = [sys.executable, str(PROGRAM), str(root), *arguments, "--workspace", str(root)]
    return subprocess.run([*command, "--json"], env=env, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_g10_memory_does_not_grow_and_resume_is_quick(shop: Any) -> None:
    """G10: RSS late − RSS early ≤ 64 MB; the first request of a resumed run goes out in ≤ 60 s.

    The size is 200,000 calls (NEXA_CORE_TEST_CALLS for more), early is at a quarter of them.
    """
    role = {"model": "scripted/m", "base_url": None, "price": None}
    shop.write("", CALLS, role=role, scale={"rows": "all", "shard_rows": 1000})
    late = f"manifest-after-append:{CALLS // 1000 - 4}"
    killed = start(shop.root, "run", str(shop.file), "--run-id", "r", points=late)
    assert killed.returncode == -signal.SIGKILL, killed.stderr + killed.stdout
    lines = [line.split() for line in (shop.root / "memory").read_text().splitlines()]
    resident = {int(calls): int(size) for calls, size in lines}
    early = resident[CALLS // 4]
    print({calls: size // MB for calls, size in resident.items() if calls % (CALLS // 8) == 0})
    assert max(size for calls, size in resident.items() if calls > CALLS // 4) - early <= 64 * MB
    (shop.root / "first").unlink()
    resumed = start(shop.root, "resume", "r")
    assert resumed.returncode == 0, resumed.stderr
    first = float((shop.root / "first").read_text())
    print(f"first request after {first} s")
    assert first <= 60 * CALLS / 1_000_000 + 10
