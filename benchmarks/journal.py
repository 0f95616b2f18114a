"""How fast the store is: the journal against a bare loop of write and fdatasync, hashes, commits.

    python benchmarks/journal.py [--frames 50000] [--rounds 5] [--json]

The bare loop writes frames that were encoded beforehand and syncs every 256, all in one thread: it
is what the disk and the kernel allow. The journal encodes, checksums and groups by itself. Rounds
alternate, so that both see the same machine; figures are medians and the best of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from nexa_core.store.content import hash_content
from nexa_core.store.files import sync_data
from nexa_core.store.frames import encode_frame
from nexa_core.store.journal import GROUP_FRAMES, Journal, read_journal
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.shards import commit_shard

TEXT = "The specific heat capacity of copper is 0.385 J/(g K), so it warms quickly. "
REPLY = {"text": TEXT * 7, "finish_reason": "stop", "usage": {"completion_tokens": 140}}


def write_bare(folder: Path, frames: int) -> None:
    """What any journal must at least do: write each frame, sync each group."""
    frame = encode_frame({"reply": REPLY, "kind": "reply", "call_id": "f" * 32, "seq": "u:123456"})
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(frames):
        os.write(fd, frame)
        if number % GROUP_FRAMES == GROUP_FRAMES - 1:
            sync_data(fd)
    sync_data(fd)
    os.close(fd)
    (folder / "bare").unlink()


def write_journal(folder: Path, frames: int) -> None:
    """Journal replies and wait until the last is on disk."""
    journal = Journal.open(folder, "unit")
    for number in range(frames):
        journal.reply(f"{number:032d}", reply=REPLY)
    journal.sync()
    journal.remove()


def read_back(folder: Path, frames: int) -> Callable[[], object]:
    """A journal of many frames, and the act of reading it."""
    journal = Journal.open(folder, "read")
    for number in range(frames):
        journal.reply(f"{number:032d}", reply=REPLY)
    journal.close()
    return lambda: read_journal(folder, "read")


def build_rows(count: int) -> pa.Table:
    """Rows as a shard has them, with about 500 characters of text each."""
    step = {"step": "answer", "model": "m", "prompt_hash": "h" * 64, "call_ids": ["c" * 32]}
    return pa.table(
        {
            "instruction": ["How quickly does copper warm?"] * count,
            "response": [f"{number} {TEXT * 7}"[:500] for number in range(count)],
            "id": [f"{number:032d}" for number in range(count)],
            "scores": [{"clear": number / 7, "answers": None} for number in range(count)],
            "flags": [["runaway"] if number % 9 == 0 else [] for number in range(count)],
            "provenance": [{"run": "r", "shard": 1, "steps": [step, step]}] * count,
        }
    )


def commit(folder: Path, table: pa.Table) -> None:
    """One shard of 1,000 rows with its calls, down to the line in the manifest."""
    done = commit_shard(folder, 0, table, table)
    append_entry(folder, ShardEntry("scale/00000", 0, {}, done.files, done.content_hash))


def measure(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of an act, over all threads."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def run(folder: Path, frames: int, rounds: int) -> dict[str, Any]:
    """Every figure, from alternating rounds."""
    table, shard = build_rows(100_000), build_rows(1_000)
    acts: dict[str, tuple[int, Callable[[], object]]] = {
        "bare write + fdatasync, frames/s": (frames, lambda: write_bare(folder, frames)),
        "journal, frames/s": (frames, lambda: write_journal(folder, frames)),
        "journal read back, frames/s": (frames, read_back(folder, frames)),
        "content hash, rows/s": (table.num_rows, lambda: hash_content(table)),
        "commit of 1,000 rows + calls, commits/s": (1, lambda: commit(folder, shard)),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, (_, act) in acts.items():
            times[name].append(measure(act))
    return {name: _describe(count, times[name]) for name, (count, _) in acts.items()}


def _describe(count: int, times: list[tuple[float, float]]) -> dict[str, float]:
    walls, cpus = zip(*times, strict=True)
    return {
        "median": round(count / statistics.median(walls), 1),
        "best": round(count / min(walls), 1),
        "cpu_us_each": round(statistics.median(cpus) / count * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; the disk matters")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = run(Path(folder), options.frames, options.rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, figure in figures.items():
        print(f"{name:42} " + "  ".join(f"{key} {value:>12,}" for key, value in figure.items()))


if __name__ == "__main__":
    main()
