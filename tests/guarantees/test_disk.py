"""G7 and G12: files that were cut, altered or could not be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nexa_core.errors import DiskFullError
from nexa_core.store.frames import encode_frame, scan_frames
from nexa_core.store.journal import read_journal
from nexa_core.store.manifest import read_manifest
from nexa_core.store.segments import list_segments, list_units
from nexa_core.store.shards import find_damaged
from nexa_core.testing.chaos import ChaosServer, Settings, serve_in_thread
from nexa_core.testing.faults import armed

FAILURES = ["journal-write=enospc:30", "journal-sync=eio:2", "shard-write=enospc:2"]
MORE = [
    *("journal-write=eio:9", "journal-sync=enospc", "shard-write=eio", "shard-before-rename=eio:2"),
    *("shard-after-rename=enospc", "manifest-before-append=enospc:2", "journal-write=enospc:30+"),
]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory, make_shop: Any) -> bytes:
    """The journal of a run that spent its budget in the middle of a shard: some replies of a server."""
    shop = make_shop(tmp_path_factory.mktemp("cut"))
    with serve_in_thread(Settings(text_chars=60)) as server:
        shop.write(server.url, budget={"usd": 0.0002}, scale={"rows": "all", "shard_rows": 40})
        assert shop.collect().code == 6
    folder = shop.run().scale.shards
    (path,) = list_segments(folder, list_units(folder)[0]).values()
    return path.read_bytes()


def find_ends(data: bytes) -> list[int]:
    """Where each frame ends."""
    return [at + 1 for at, byte in enumerate(data) if byte == 10]


def check_cuts(data: bytes) -> None:
    """Cut at any byte, the whole frames before it are read, and nothing else."""
    ends = find_ends(data)
    whole = scan_frames(data).frames
    assert len(ends) == len(whole) > 4
    for size in range(len(data)):
        scan = scan_frames(data[:size])
        count = sum(end <= size for end in ends)
        assert (scan.frames, scan.damaged_at) == (whole[:count], None), size


def check_flips(data: bytes, bits: Iterator[int] | range) -> None:
    """A flipped bit is damage, and every frame that it does not touch is still read."""
    whole, ends = scan_frames(data).frames, find_ends(data)
    for bit in bits:
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        scan = scan_frames(bytes(altered))
        assert scan.frames != whole and all(frame in whole for frame in scan.frames), bit
        last = bit // 8 >= ends[-2]
        assert scan.damaged_at is not None or (last and scan.torn_bytes), bit


def test_g7_a_cut_journal_is_its_longest_whole_part(segment: bytes) -> None:
    """G7: Truncating the last segment at any byte yields exactly the longest valid prefix."""
    check_cuts(segment[: find_ends(segment)[7]])


def test_g7_a_flipped_bit_is_found(segment: bytes) -> None:
    """G7: Flipping any bit is detected."""
    part = segment[: find_ends(segment)[5]]
    check_flips(part, range(0, 8 * len(part), 3))


@pytest.mark.slow
def test_g7_at_every_byte_of_16_kb_and_every_bit_of_4_kb() -> None:
    """G7: the same at every byte of 16 KB and at every bit of 4 KB."""
    texts = ({"kind": "reply", "call_id": f"{n}", "text": "iron " * 40} for n in range(70))
    data = b"".join(encode_frame(text) for text in texts)
    check_cuts(data[: data.rindex(b"\n", 0, 16 << 10) + 1])
    check_flips(data[: data.rindex(b"\n", 0, 4 << 10) + 1], range(8 * 4000))


def check_disk(shop: Any, points: str, untouched: list[str]) -> None:
    """Fail as told, with a name and no bad file; then go on to the same end."""
    with armed(points):
        done = shop.collect()
    assert done.code == DiskFullError.exit_code, done.out
    assert done.said["error"] in ("DiskFullError", "JournalError", "ManifestError", "StoreError")
    scale = shop.run().scale
    entries = read_manifest(scale.path)
    assert find_damaged(scale.shards, entries) == []
    for unit in list_units(scale.shards):
        read_journal(scale.shards, unit)
    assert shop.collect().code == 0
    assert shop.hashes() == untouched


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    """One for all runs that are compared: its address is part of every call."""
    with serve_in_thread(Settings(text_chars=120)) as server:
        yield server


@pytest.fixture(scope="module")
def untouched(
    tmp_path_factory: pytest.TempPathFactory, make_shop: Any, server: ChaosServer
) -> list[str]:
    """The content of the shards that no disk failed."""
    shop = make_shop(tmp_path_factory.mktemp("whole"))
    shop.write(server.url)
    assert shop.collect().code == 0
    return shop.hashes()


@pytest.mark.parametrize("points", FAILURES)
def test_g12_a_failing_disk_ends_the_run_by_name(
    shop: Any, server: ChaosServer, untouched: list[str], points: str
) -> None:
    """G12: Disk full and EIO exit non-zero with a named code, no corrupt artefact, resume completes."""
    shop.write(server.url)
    check_disk(shop, points, untouched)


@pytest.mark.slow
@pytest.mark.parametrize("points", MORE)
def test_g12_wherever_the_disk_fails(
    shop: Any, server: ChaosServer, untouched: list[str], points: str
) -> None:
    """G12: the same at every other place where a run writes."""
    shop.write(server.url)
    check_disk(shop, points, untouched)
