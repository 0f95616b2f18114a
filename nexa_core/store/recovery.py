"""What a shard that must be redone still holds: its answered calls, put back into its journal."""

from __future__ import annotations

import json
from pathlib import Path

from nexa_core.errors import ManifestError
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.manifest import ShardEntry
from nexa_core.store.shards import read_shard

__all__ = ["restore_journal"]

_COLUMNS = ["call_id", "step", "role", "reply"]


def restore_journal(folder: Path, entry: ShardEntry) -> int:
    """Journal every reply of a committed shard's calls file again, so that a redo asks none twice.

    To be called before the entry is retracted and its files are swept; calling it again adds
    nothing. A shard that asked no one, or whose calls file is damaged itself, gives nothing.

    Returns:
        The number of replies put back.
    """
    unit = f"{entry.shard:05d}"
    name = f"{unit}.calls.parquet"
    if name not in entry.files:
        return 0
    try:
        calls = read_shard(folder / name, entry.files[name], _COLUMNS)
    except ManifestError:
        return 0
    known = read_journal(folder, unit, salvage=True).replies
    missing = {
        call["call_id"]: call
        for call in calls.to_pylist()
        if call["reply"] is not None and call["call_id"] not in known
    }
    if missing:
        journal = Journal.open(folder, unit)
        for call_id, call in missing.items():
            reply = json.loads(call["reply"])
            journal.reply(call_id, step=call["step"], role=call["role"], reply=reply)
        journal.close()
    return len(missing)
