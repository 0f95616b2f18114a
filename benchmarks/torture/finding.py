"""What one item of the torture found, and the page of all of them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "artifacts" / "torture.json"
PAGE = ROOT / "docs" / "torture.md"

HEAD = """# Torture

Written by `just torture`; `just torture --size nightly` does as much as is asked. The code is in `benchmarks/torture/`,
the server that runs are collected from is `nexa_core.testing.chaos`, and *lost*, *twice* and *asked again* are counted
from that server's own log, never from what the run says about itself.
"""


@dataclass(frozen=True)
class Finding:
    """One item: what was asked of nexa, what was measured, whether it held."""

    item: str
    asked: str
    measured: str
    held: bool
    details: dict[str, Any] = field(default_factory=dict)
    size: str = ""
    seconds: float = 0.0
    at: str = ""


def keep(finding: Finding) -> None:
    """Put a finding in the place of an older one of the same item."""
    kept = {one.item: one for one in read_kept()} | {finding.item: finding}
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps([asdict(one) for one in kept.values()], indent=1))


def read_kept() -> list[Finding]:
    """The last finding of every item."""
    if not KEPT.exists():
        return []
    return [Finding(**one) for one in json.loads(KEPT.read_text())]


def write_page(order: Iterable[str]) -> None:
    """The page, with the last finding of every item."""
    known = {one.item: one for one in read_kept()}
    rows = [known[name] for name in order if name in known]
    lines = [
        HEAD,
        "| what | asked | measured | held | size, seconds, day |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        when = f"{one.size}, {one.seconds:.0f} s, {one.at[:10]}"
        held = "yes" if one.held else "**no**"
        lines.append(f"| {one.item} | {one.asked} | {one.measured} | {held} | {when} |")
    lines.append(f"\nPython {platform.python_version()}, {_count_cores()} cores, Linux.")
    PAGE.write_text("\n".join(lines) + "\n")


def _count_cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
