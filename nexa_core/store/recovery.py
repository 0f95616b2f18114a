"""What a shard that must be redone still holds: its answered calls, put back into its journal."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from nexa_core.errors import ManifestError
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.layout import ShardFolder
from nexa_core.store.manifest import ShardEntry, retract_entry
from nexa_core.store.money import journal_money
from nexa_core.store.shards import read_shard

__all__ = ["restore_journal", "take_back"]

_COLUMNS = ["call_id", "step", "role", "model", "reply", "cost_nano", "at_risk_nano"]


def take_back(folder: ShardFolder, entry: ShardEntry, reason: str) -> None:
    """Retract a committed shard: its replies go back into its journal, and so does its money.

    What was paid for calls that are lost with the shard stays in the manifest as forfeit.
    """
    restore_journal(folder.shards, entry)
    kept = journal_money(read_journal(folder.shards, f"{entry.shard:05d}", salvage=True))
    paid = Counter(entry.cost_nano) + Counter(entry.at_risk_nano)
    retract_entry(folder.path, entry, reason, paid - (kept.settled + kept.at_risk))


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
            fields = {name: call[name] for name in _COLUMNS[1:] if call[name] is not None}
            journal.reply(call_id, **{**fields, "reply": json.loads(call["reply"])})
        journal.close()
    return len(missing)
