"""A run that is killed at any moment and taken up again: nothing lost, nothing twice."""

import os
import random
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from nexa_core.errors import DiskFullError
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.store.shards import read_shard
from nexa_core.testing.faults import start_program

ENGINE = Path(__file__).with_name("miniature_engine.py")
SHARDS, CALLS = 4, 300
POINTS = [
    "journal-write:7",
    "journal-after-intent:7",
    "journal-after-reply:7",
    "journal-sync",
    "shard-after-temporary",
    "shard-before-rename",
    "shard-after-rename",
    "shard-after-dirsync",
    "manifest-before-append",
    "manifest-after-append",
]


def start(folder: Path, points: str = "") -> BaseProcess:
    return start_program(ENGINE, str(folder), str(SHARDS), str(CALLS), points=points)


def finish(folder: Path, points: str = "") -> int | None:
    process = start(folder, points)
    process.join(60)
    return process.exitcode


def hashes(folder: Path) -> list[str]:
    entries = read_manifest(Run(folder).scale.path)
    return [entry.content_hash for entry in entries]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Content hashes of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finish(folder) == 0
    return hashes(folder)


def check_outcome(folder: Path, kills: int, undisturbed: list[str]) -> None:
    shards = Run(folder).scale.shards
    assert hashes(folder) == undisturbed
    tables = [read_shard(shards / f"{shard:05d}.parquet") for shard in range(SHARDS)]
    ids = [row_id for table in tables for row_id in table.column("id").to_pylist()]
    assert len(ids) == len(set(ids)) == SHARDS * CALLS
    asked = Counter((folder / "asked").read_text().split())
    assert asked.total() - SHARDS * CALLS <= kills  # one call is in flight at each kill
    assert {path.suffix for path in shards.iterdir()} == {".parquet"}


def kill_at_random(folder: Path, chance: random.Random) -> bool:
    """Start the program and kill it a moment later; False when it was through before."""
    process = start(folder)
    process.join(chance.uniform(0, 0.2))
    process.kill()
    process.join()
    return process.exitcode == -9


def torture(folder: Path, kills: int, undisturbed: list[str]) -> None:
    """Kill runs at random moments, `kills` times in all; check each when it is through."""
    seed = int.from_bytes(os.urandom(4))
    print(f"{seed=}")
    chance, done, number = random.Random(seed), 0, 0
    while done < kills:
        run, number, before = folder / f"run{number}", number + 1, done
        while done < kills and kill_at_random(run, chance):
            done += 1
        assert finish(run) == 0
        check_outcome(run, done - before, undisturbed)


def test_kills_lose_and_repeat_nothing(tmp_path: Path, undisturbed: list[str]) -> None:
    """8 kills at random moments leave the shards that no kill would have left."""
    torture(tmp_path, 8, undisturbed)


@pytest.mark.slow
def test_many_kills_lose_and_repeat_nothing(tmp_path: Path, undisturbed: list[str]) -> None:
    """The same for 200 kills."""
    torture(tmp_path, 200, undisturbed)


def test_a_kill_at_every_failpoint(tmp_path: Path, undisturbed: list[str]) -> None:
    """Kills where they hurt most, one after the other, leave what no kill would have left."""
    folder = tmp_path / "run"
    for point in POINTS:
        assert finish(folder, point) == -9, point
    assert finish(folder) == 0
    check_outcome(folder, len(POINTS), undisturbed)


def test_a_full_disk_ends_with_a_typed_error_and_resumes(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    """A disk that fills while a shard is written says so, and the next start finishes the run."""
    folder = tmp_path / "run"
    assert finish(folder, "shard-write=enospc:2") == DiskFullError.exit_code
    assert (folder / "error").read_text().startswith("DiskFullError")
    assert finish(folder) == 0
    check_outcome(folder, 0, undisturbed)
