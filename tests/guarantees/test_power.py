"""G2: what is left when the power goes, on the strictest disk there may be."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nexa_core.store.journal import GROUP_FRAMES, Journal, read_journal
from nexa_core.store.manifest import read_manifest
from nexa_core.store.segments import list_units
from nexa_core.testing.power import ForgetfulDisk, forgetting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@dataclass
class Outage:
    """One power loss: where its disk is, and what had been said to be on it."""

    root: Path
    written: set[str]
    durable: set[str]


@dataclass
class Grid:
    """Takes the power away at chosen replies, and lets the run go on all the same."""

    disk: ForgetfulDisk
    at: set[int]
    target: Path
    written: set[str] = field(default_factory=set)
    durable: set[str] = field(default_factory=set)
    outages: list[Outage] = field(default_factory=list)

    def watch(self, journal: Journal, call_id: str) -> None:
        """A reply was journaled: note it, and once more when it is said to be on disk."""
        self.written.add(call_id)
        asyncio.get_running_loop().create_task(self._wait(journal, call_id))
        if len(self.written) in self.at:
            durable = set(self.durable)
            root = self.target / str(len(self.written))
            self.disk.lose_power(root)
            self.outages.append(Outage(root, set(self.written), durable))

    async def _wait(self, journal: Journal, call_id: str) -> None:
        await journal.synced()
        self.durable.add(call_id)


@pytest.fixture
def lose_power(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[set[int]], list[Outage]]:
    """Runs the pipeline to its end, and gives the disks of the outages at these replies."""

    def run(at: set[int]) -> list[Outage]:
        with forgetting(shop.root) as disk:
            grid = Grid(disk, at, tmp_path / "outages")
            journal_reply = Journal.reply

            def reply(self: Journal, call_id: str, **fields: Any) -> None:
                journal_reply(self, call_id, **fields)
                grid.watch(self, call_id)

            monkeypatch.setattr(Journal, "reply", reply)
            assert shop.collect().code == 0
        monkeypatch.setattr(Journal, "reply", journal_reply)
        return grid.outages

    return run


def found_replies(shop: Any) -> set[str]:
    """The calls whose reply a resumed run would find."""
    folder = shop.run().scale.shards
    units = list_units(folder) if folder.exists() else []
    journaled = {call for unit in units for call in read_journal(folder, unit).replies}
    committed = read_manifest(shop.run().scale.path)
    return journaled | set(shop.calls()["call_id"].to_pylist() if committed else [])


def check(shop: Any, other: Any, outage: Outage, server: Any) -> None:
    """Resume what the outage left: nothing durable is missing, and the end is as without it."""
    for name in ("nexa.toml", "rows.jsonl", "collect.yaml"):
        shutil.copy(shop.root / name, other.root / name)
    found = found_replies(other)
    assert outage.durable <= found
    assert len(outage.written - found) <= GROUP_FRAMES
    before = shop.asked(server).total()
    done = other.collect()
    assert done.code == 0, done.out
    assert shop.asked(server).total() - before == len(shop.rows()) - len(found)
    assert other.hashes() == shop.hashes()


def test_g2_what_was_durable_outlives_power_loss(
    shop: Any, serve: Any, make_shop: Any, lose_power: Any
) -> None:
    """G2: After power loss every reply acknowledged as durable is present; un-acked loss ≤ one group."""
    server = serve(latency=0.01)
    shop.write(server.url)
    for outage in lose_power({13, 31}):
        check(shop, make_shop(outage.root), outage, server)


@pytest.mark.slow
def test_g2_holds_at_twenty_moments(shop: Any, serve: Any, make_shop: Any, lose_power: Any) -> None:
    """G2: the same at twenty moments of a longer run."""
    server = serve(latency=0.01)
    shop.write(server.url, rows=200, scale={"rows": "all", "shard_rows": 25})
    for outage in lose_power(set(range(5, 200, 10))):
        check(shop, make_shop(outage.root), outage, server)
