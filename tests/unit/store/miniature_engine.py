"""A program that collects shards as the engine does, to be killed and started again by tests.

Arguments: run folder, shards, calls per shard. Every request that goes out is a line in `asked`.
"""

import os
import sys
import time
from pathlib import Path

import pyarrow as pa

from nexa_core.errors import NexaError
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.layout import Run
from nexa_core.store.lock import RunLock
from nexa_core.store.manifest import ShardEntry, append_entry, read_manifest
from nexa_core.store.shards import commit_shard, find_damaged, sweep


def ask(asked: int, call_id: str) -> str:
    """What a paid endpoint would answer; it keeps its own record of what it was asked."""
    os.write(asked, f"{call_id}\n".encode())
    time.sleep(0.0002)
    return f"reply to {call_id} " * 20


def collect(folder: Path, shard: int, calls: int, asked: int) -> list[dict[str, str]]:
    """The replies of a shard in order: journaled ones as they are, missing ones asked for."""
    unit = f"{shard:05d}"
    known = read_journal(folder, unit).replies
    journal = Journal.open(folder, unit)
    rows = []
    for index in range(calls):
        call_id = f"{shard}-{index}"
        if call_id not in known:
            journal.intend(call_id)
            reply = ask(asked, call_id)
            journal.reply(call_id, text=reply)
            known[call_id] = {"text": reply}
        rows.append({"id": call_id, "response": known[call_id]["text"]})
    journal.close()
    return rows


def main(run: Run, shards: int, calls: int) -> None:
    """Do every shard that is not committed yet."""
    scale = run.scale.create()
    asked = os.open(run.path / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    entries = read_manifest(scale.path)
    assert not find_damaged(scale.shards, entries)
    sweep(scale.shards, entries)
    for shard in sorted(set(range(shards)) - {entry.shard for entry in entries}):
        rows = collect(scale.shards, shard, calls, asked)
        done = commit_shard(scale.shards, shard, pa.Table.from_pylist(rows))
        counts = {"accepted": done.rows}
        entry = ShardEntry(scale.unit(shard), shard, counts, done.files, done.content_hash)
        append_entry(scale.path, entry)
    sweep(scale.shards, read_manifest(scale.path))


if __name__ == "__main__":
    run = Run(Path(sys.argv[1]))
    run.path.mkdir(exist_ok=True)
    try:
        with RunLock.acquire(run.path):
            main(run, int(sys.argv[2]), int(sys.argv[3]))
    except NexaError as error:
        (run.path / "error").write_text(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
