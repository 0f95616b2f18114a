"""A shard that is redone asks nothing that its calls file still answers."""

from pathlib import Path

import pyarrow as pa

from nexa_core.store.journal import read_journal
from nexa_core.store.layout import ShardFolder
from nexa_core.store.manifest import ShardEntry, append_entry, read_forfeits
from nexa_core.store.money import journal_money
from nexa_core.store.recovery import restore_journal, take_back
from nexa_core.store.shards import commit_shard, sweep
from nexa_core.testing.faults import cut_file

ROWS = pa.table({"id": ["a", "b"]})
CALLS = pa.table(
    {
        "call_id": ["a", "b"],
        "step": ["answer"] * 2,
        "role": ["teacher"] * 2,
        "model": ["openai/gpt-4o-mini"] * 2,
        "cost_nano": [1_200, 0],
        "at_risk_nano": [0, 900],
        "reply": ['{"text":"copper"}', None],
    }
)


def commit(folder: Path) -> ShardEntry:
    done = commit_shard(folder, 0, ROWS, CALLS)
    return ShardEntry("scale/00000", 0, {}, done.files, done.content_hash)


def test_replies_go_back_into_the_journal(tmp_path: Path) -> None:
    """After a truncated shard is swept, its answered calls are in a journal; failed ones are not."""
    entry = commit(tmp_path)
    cut_file(tmp_path / "00000.parquet", 40)
    assert restore_journal(tmp_path, entry) == 1
    sweep(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["00000.1.journal"]
    replies = read_journal(tmp_path, "00000").replies
    assert replies["a"]["reply"] == {"text": "copper"}
    assert replies["a"]["cost_nano"] == 1_200
    assert set(replies) == {"a"}


def test_restoring_twice_adds_nothing(tmp_path: Path) -> None:
    """A process that died between restoring and retracting does no harm."""
    entry = commit(tmp_path)
    assert (restore_journal(tmp_path, entry), restore_journal(tmp_path, entry)) == (1, 0)


def test_a_damaged_calls_file_gives_nothing(tmp_path: Path) -> None:
    """What cannot be trusted is asked again."""
    entry = commit(tmp_path)
    cut_file(tmp_path / "00000.calls.parquet", -3)
    assert restore_journal(tmp_path, entry) == 0


def test_no_money_is_forgotten_when_a_shard_is_taken_back(tmp_path: Path) -> None:
    """What the restored journal does not account for stays in the manifest as forfeit."""
    folder = ShardFolder(tmp_path, "scale").create()
    done = commit_shard(folder.shards, 0, ROWS, CALLS)
    entry = ShardEntry(
        "scale/00000",
        0,
        {},
        done.files,
        done.content_hash,
        cost_nano={"teacher": 1_500},
        at_risk_nano={"teacher": 900},
    )
    append_entry(folder.path, entry)
    take_back(folder, entry, "a file is missing or altered")
    kept = journal_money(read_journal(folder.shards, "00000"))
    assert kept.total + read_forfeits(folder.path).total() == 2_400
