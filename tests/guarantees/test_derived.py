"""G6 and G11: what follows from the journals and manifests follows from them alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from nexa_core.store.events import read_events
from nexa_core.store.status import fold_status, read_status

DERIVED = ("status.json", "report.html", "qc_summary.json", "estimate.json")


def delete_derived(shop: Any) -> list[str]:
    """Delete every file of the run that may be deleted; their names."""
    paths = [p for name in DERIVED for p in shop.run().path.rglob(name)]
    for path in paths:
        path.unlink()
    return sorted(path.name for path in paths)


def ask_status(shop: Any) -> dict[str, Any]:
    """What `nexa status` says."""
    said: dict[str, Any] = shop.nexa("status", "r", "--json").said
    return said


def test_g6_derived_files_may_be_deleted(shop: Any, serve: Any) -> None:
    """G6: Deleting status.json and derived files changes nothing; what is built anew is equal."""
    server = serve()
    shop.write(server.url, budget={"usd": 0.0005})
    assert shop.collect().code == 6
    before, folded = read_status(shop.run().path), ask_status(shop)
    assert "status.json" in delete_derived(shop)
    events = read_events(shop.run().path).records
    assert ask_status(shop) == folded
    assert fold_status("r", events) == before
    asked = shop.asked(server).total()
    assert shop.nexa("resume", "r", "--json", "--set", "budget.usd=1").code == 0
    assert shop.asked(server).total() == 40
    report = (shop.run().path / "report.html").read_bytes()
    delete_derived(shop)
    assert shop.nexa("report", "r", "--json").code == 0
    assert (shop.run().path / "report.html").read_bytes() == report
    assert asked < 40


def read_files(folder: Path) -> dict[str, bytes]:
    """The Parquet files of scale."""
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").glob("*.parquet"))}


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The manifest without when and how fast."""
    lines = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ("at", "seconds")} for line in lines]


def test_g11_the_same_journal_gives_the_same_bytes(
    shop: Any, serve: Any, make_shop: Any, tmp_path: Path
) -> None:
    """G11: Same pipeline and same journal: byte-identical shards and manifest but for declared times."""
    server = serve()
    shop.write(server.url, scale={"rows": "all", "shard_rows": 40})
    shop.kill_at("manifest-before-append")
    twin = make_shop(tmp_path / "twin")
    for name in ("rows.jsonl", "collect.yaml"):
        shutil.copy(shop.root / name, twin.root / name)
    shutil.copytree(shop.root / "artifacts", twin.root / "artifacts")
    for each in (shop, twin):
        assert each.collect().said["calls"] == {"asked": 0, "replayed": 40, "reused": 0}
    first, second = (each.run().scale.path for each in (shop, twin))
    assert read_files(first) == read_files(second) and len(read_files(first)) == 2
    assert read_lines(first) == read_lines(second)
    assert shop.asked(server).total() == 40
