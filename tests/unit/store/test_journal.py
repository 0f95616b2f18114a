"""The journal of a paid unit: what was handed to it is there, whatever becomes of the disk."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nexa_core.errors import DiskFullError, JournalError
from nexa_core.store import segments
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.money import journal_money
from nexa_core.store.segments import list_segments
from nexa_core.testing.faults import armed, cut_file, flip_bit, limited_file_size

UNIT = "00000"


def ask(journal: Journal, *names: str) -> None:
    for name in names:
        journal.intend(name)
        journal.reply(name, text=name * 50)


def test_a_reply_is_readable_as_soon_as_it_is_journaled(tmp_path: Path) -> None:
    """A reply is with the kernel when `reply` returns, before any sync."""
    journal = Journal.open(tmp_path, UNIT)
    with armed("journal-sync=eio"):
        journal.reply("a", text="iron", cost_nano=7)
        found = read_journal(tmp_path, UNIT).replies["a"]
    assert (found["text"], found["cost_nano"], found["kind"]) == ("iron", 7, "reply")


def test_only_calls_without_an_end_are_in_flight(tmp_path: Path) -> None:
    """A call is in flight after its last intent until a reply or a failure."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "answered")
    journal.intend("refused")
    journal.fail("refused", error="429")
    for name in ("again", "waiting"):
        journal.intend(name)
    journal.fail("again", error="timeout")
    journal.intend("again")
    journal.close()
    found = read_journal(tmp_path, UNIT)
    assert set(found.intents) == {"again", "waiting"}
    assert [frame["error"] for frame in found.failures["refused"]] == ["429"]


def test_the_first_reply_wins(tmp_path: Path) -> None:
    """A second reply to a call is counted with what it cost, and never replaces the first."""
    for text in ("first", "second"):
        journal = Journal.open(tmp_path, UNIT)
        journal.reply("a", text=text)
        journal.close()
    found = read_journal(tmp_path, UNIT)
    assert found.segments == 2
    assert found.replies["a"]["text"] == "first"
    assert [frame["text"] for frame in found.duplicates] == ["second"]


def test_a_reply_that_moved_between_segments_is_one(tmp_path: Path) -> None:
    """Frames that a failing disk left in two segments were paid once, and count once."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a")
    journal.close()
    shutil.copy(tmp_path / "00000.1.journal", tmp_path / "00000.2.journal")
    assert read_journal(tmp_path, UNIT).duplicates == []


def test_failures_that_moved_between_segments_are_paid_once(tmp_path: Path) -> None:
    """What failed tries cost, and which calls are in flight, is the same after frames have moved."""
    journal = Journal.open(tmp_path, UNIT)
    journal.intend("a", reserved_nano=9)
    journal.fail("a", role="teacher", cost_nano=5, at_risk_nano=2)
    journal.intend("a", reserved_nano=9)
    journal.close()
    once = journal_money(read_journal(tmp_path, UNIT))
    shutil.copy(tmp_path / "00000.1.journal", tmp_path / "00000.2.journal")
    found = read_journal(tmp_path, UNIT)
    assert [len(found.failures["a"]), len(found.lost)] == [1, 1]
    assert journal_money(found) == once


def test_a_dead_tail_is_cut_and_the_next_process_goes_on(tmp_path: Path) -> None:
    """A frame that a dead process left half-written is no reply; its segment stays as it is."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a", "b")
    journal.close()
    cut_file(tmp_path / "00000.1.journal", -5)
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "b")
    journal.close()
    found = read_journal(tmp_path, UNIT)
    assert set(found.replies) == {"a", "b"}
    assert found.torn_bytes > 0
    assert list(list_segments(tmp_path, UNIT)) == [1, 2]


def test_a_flipped_bit_is_refused_or_salvaged(tmp_path: Path) -> None:
    """Damage is an error that says where; salvage keeps every frame that is whole."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a", "b", "c")
    journal.close()
    flip_bit(tmp_path / "00000.1.journal", 1200)
    with pytest.raises(JournalError, match=r"00000\.1\.journal' is damaged at byte .*--salvage"):
        read_journal(tmp_path, UNIT)
    found = read_journal(tmp_path, UNIT, salvage=True)
    assert len(found.replies) == 2
    assert found.damaged_bytes > 0


def test_a_barrier_waits_for_the_disk(tmp_path: Path) -> None:
    """`synced` returns once all frames before it are on disk, and does not block the loop."""

    async def write() -> int:
        journal = Journal.open(tmp_path, UNIT)
        ask(journal, *"abc")
        turns = 0
        barrier = asyncio.ensure_future(journal.synced())
        while not barrier.done():
            await asyncio.sleep(0.001)
            turns += 1
        await barrier
        journal.remove()
        return turns

    assert asyncio.run(write()) >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_waiter_that_gives_up_does_not_hurt_the_others(tmp_path: Path) -> None:
    """Cancelling one barrier leaves the journal and the other barriers alone."""

    async def write() -> None:
        journal = Journal.open(tmp_path, UNIT)
        ask(journal, "a")
        quitter, stayer = asyncio.ensure_future(journal.synced()), journal.synced()
        await asyncio.sleep(0)
        quitter.cancel()
        await stayer
        journal.close()

    asyncio.run(asyncio.wait_for(write(), 2))


def test_threads_share_a_journal(tmp_path: Path) -> None:
    """Frames of many threads never mix."""
    journal = Journal.open(tmp_path, UNIT)
    names = [[f"{thread}-{n}" for n in range(200)] for thread in range(4)]
    threads = [threading.Thread(target=ask, args=(journal, *some)) for some in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert len(read_journal(tmp_path, UNIT).replies) == 800


def test_a_full_disk_loses_no_reply(tmp_path: Path) -> None:
    """After ENOSPC no request may go out, and replies still land in the room of the ballast."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a")
    journal.intend("b")
    journal.intend("c")
    with armed("journal-write=enospc"):
        journal.reply("b", text="b")
    with pytest.raises(DiskFullError, match="No space left"):
        journal.intend("d")
    journal.reply("c", text="c")
    with pytest.raises(DiskFullError):
        journal.sync()
    with pytest.raises(DiskFullError):
        journal.close()
    found = read_journal(tmp_path, UNIT)
    assert (set(found.replies), found.duplicates) == ({"a", "b", "c"}, [])


FILL = """
import subprocess, sys
from pathlib import Path
from nexa_core.errors import DiskFullError
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.money import journal_money
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
journal, asked = Journal.open(folder, "unit"), []
try:
    for number in range(10_000):
        journal.intend(str(number))
        asked.append(number)
        if number >= 50:
            journal.reply(str(number - 50), text="x" * 2000)
except DiskFullError:
    for number in asked[-50:]:
        journal.reply(str(number), text="x" * 2000)
try:
    journal.close()
except DiskFullError:
    replies = read_journal(folder, "unit").replies
    print(sorted(map(int, replies)) == asked, len(asked) > 1500)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own")
def test_the_last_replies_land_on_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a small file system filled to the last byte, the ballast takes what is in flight."""
    command = ["unshare", "-Urm", sys.executable, "-c", FILL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no right to mount a file system")
    assert done.stdout == "True True\n", done.stderr


def test_a_disk_without_any_room_keeps_replies_in_memory(tmp_path: Path) -> None:
    """Where no segment can be written `reply` raises, and `close` lands what it kept."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a")
    with armed("journal-write=enospc:1+"):
        for name in "bc":
            with pytest.raises(DiskFullError):
                journal.reply(name, text=name)
    with pytest.raises(DiskFullError):
        journal.close()
    found = read_journal(tmp_path, UNIT)
    assert (set(found.replies), found.duplicates) == ({"a", "b", "c"}, [])
    assert found.segments == 2


def test_a_failed_sync_moves_to_another_file(tmp_path: Path) -> None:
    """After a failed fdatasync the file is not trusted again: its last group moves elsewhere."""
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a")
    journal.sync()
    durable = (tmp_path / "00000.1.journal").stat().st_size
    with armed("journal-sync=eio"):
        ask(journal, "b")
        with pytest.raises(JournalError, match="Input/output error"):
            journal.sync()
    with pytest.raises(JournalError):
        journal.close()
    assert (tmp_path / "00000.1.journal").stat().st_size == durable
    assert set(read_journal(tmp_path, UNIT).replies) == {"a", "b"}


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real limit of the system, hit in the middle of a frame, loses nothing."""
    monkeypatch.setattr(segments, "BALLAST_BYTES", 4096)
    journal = Journal.open(tmp_path, UNIT)
    with limited_file_size(20_000):
        for number in range(20):
            journal.reply(f"{number}", text="x" * 1500)
            if number == 9:
                journal.sync()
    with pytest.raises(DiskFullError):
        journal.close()
    found = read_journal(tmp_path, UNIT)
    assert (len(found.replies), found.segments, found.duplicates) == (20, 2, [])


def test_no_room_is_found_before_anything_is_paid(tmp_path: Path) -> None:
    """A journal that could not take what is in flight does not open."""
    with limited_file_size(1000), pytest.raises(DiskFullError):
        Journal.open(tmp_path, UNIT)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_never_share_a_segment(tmp_path: Path) -> None:
    """Every opening writes to a file of its own, also in one and the same instant."""
    with ThreadPoolExecutor(8) as pool:
        journals = list(pool.map(lambda _: Journal.open(tmp_path, UNIT), range(40)))
    for number, journal in enumerate(journals):
        journal.reply(str(number))
        journal.close()
    assert list(list_segments(tmp_path, UNIT)) == list(range(1, 41))
    assert len(read_journal(tmp_path, UNIT).replies) == 40


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """A reply after `close` is an error and not lost in silence; closing twice is none."""
    journal = Journal.open(tmp_path, UNIT)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.reply("a")


def test_a_group_is_on_disk_within_its_time(tmp_path: Path) -> None:
    """A lone reply does not wait for company much longer than the 10 ms of a group."""
    journal = Journal.open(tmp_path, UNIT)
    journal.reply("a")
    started = time.monotonic()
    journal.sync()
    assert time.monotonic() - started < 0.5
    journal.close()


@pytest.mark.parametrize("unit", ["../x", "a/b", "", ".hidden"])
def test_a_unit_names_a_file_in_its_folder(tmp_path: Path, unit: str) -> None:
    """A unit cannot reach out of its folder."""
    with pytest.raises(JournalError):
        Journal.open(tmp_path, unit)


def test_a_request_that_was_lost_and_asked_again_stays_lost(tmp_path: Path) -> None:
    """Its money stays at risk: the answer to the second request says nothing of the first."""
    journal = Journal.open(tmp_path, UNIT)
    journal.intend("a", reserved_nano=7)
    journal.close()
    journal = Journal.open(tmp_path, UNIT)
    ask(journal, "a")
    journal.close()
    found = read_journal(tmp_path, UNIT)
    assert [frame["reserved_nano"] for frame in found.lost] == [7]
    assert set(found.replies) == {"a"} and found.intents == {}
