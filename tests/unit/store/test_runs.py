"""The folders of runs: created once, found by id, never mixed up."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nexa_core.errors import (
    RunLockedError,
    RunVersionError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from nexa_core.store.lock import RunLock
from nexa_core.store.runs import create_run, find_run, list_runs, open_run, remove_run


def test_a_new_run_is_private_and_whole(tmp_path: Path) -> None:
    """The folder is the owner's alone and has its run.json from the first moment."""
    run = create_run(tmp_path, "first", "demo", {"pipeline_hash": "abc", "seed": 3})
    assert (run.path.stat().st_mode & 0o777, run.record_path.stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    assert run.record["format"] == 1
    assert {"run": "first", "name": "demo", "seed": 3}.items() <= run.record.items()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_the_paths_of_a_run(tmp_path: Path) -> None:
    """Everything lies where the design says."""
    run = create_run(tmp_path, "r", "demo", {})
    one = run.iteration(1).create()
    assert one.shards == run.path / "iterations/01/shards"
    assert (one.unit(12), run.scale.unit(3)) == ("iterations/01/00012", "scale/00003")
    assert one.manifest_path == run.path / "iterations/01/manifest.jsonl"
    assert run.training("main") == run.path / "training/main"
    assert run.iterations() == [one]


def test_default_ids_never_collide(tmp_path: Path) -> None:
    """Runs of one name in one second get numbers, in other threads too."""
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run(tmp_path, None, "My Démo!", {}), range(24)))
    assert len({run.id for run in runs}) == len(list_runs(tmp_path)) == 24
    assert all(run.id.startswith("my-d-mo-20") for run in runs)


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    """A second run of one id is refused, and the first keeps its run.json."""
    create_run(tmp_path, "r", "demo", {"seed": 1})
    with pytest.raises(UsageError, match=r"'r' exists already.*--run-id"):
        create_run(tmp_path, "r", "demo", {"seed": 2})
    assert open_run(tmp_path, "r").record["seed"] == 1


@pytest.mark.parametrize(
    "run_id", ["../x", "a/b", "", "UPPER", ".x", "a" * 65, "latest", "a\0", "-r"]
)
def test_an_id_is_a_plain_name(tmp_path: Path, run_id: str) -> None:
    """No id reaches out of the folder or looks like an option; the words of commands are taken."""
    with pytest.raises(UsageError):
        find_run(tmp_path, run_id, "abc")


def test_an_id_resumes_only_its_own_pipeline(tmp_path: Path) -> None:
    """A free id is None, the same pipeline is the run, another pipeline is a usage error."""
    assert find_run(tmp_path, "r", "abc") is None
    run = create_run(tmp_path, "r", "demo", {"pipeline_hash": "abc"})
    assert find_run(tmp_path, "r", "abc") == run
    with pytest.raises(UsageError, match="another pipeline") as caught:
        find_run(tmp_path, "r", "xyz")
    assert caught.value.exit_code == 2


def test_latest_is_the_one_created_last(tmp_path: Path) -> None:
    """Not the last in the alphabet, and not the last that was touched."""
    for run_id in ("b", "c", "a"):
        create_run(tmp_path, run_id, "demo", {})
    (tmp_path / "b" / "touched").touch()
    assert open_run(tmp_path, "latest").id == "a"
    assert [run.id for run in list_runs(tmp_path)] == ["a", "c", "b"]


def test_no_run_at_all(tmp_path: Path) -> None:
    """An empty workspace says how to make a run."""
    with pytest.raises(UsageError, match="`nexa run FILE` makes one"):
        open_run(tmp_path / "artifacts", "latest")


def test_an_unknown_run_lists_near_names(tmp_path: Path) -> None:
    """A mistyped id is answered with the runs it may have meant."""
    for run_id in ("distill-a", "distill-b", "audit"):
        create_run(tmp_path, run_id, "demo", {})
    with pytest.raises(UnknownNameError, match=r"Did you mean 'distill-[ab]'") as caught:
        open_run(tmp_path, "distil-a")
    assert caught.value.exit_code == 2


def test_a_newer_run_is_refused(tmp_path: Path) -> None:
    """A run folder of a newer version is left alone, and the error says what to install."""
    run = create_run(tmp_path, "r", "demo", {})
    record = {**json.loads(run.record_path.read_text()), "format": 2, "nexa_version": "9.1"}
    run.record_path.write_text(json.dumps(record))
    with pytest.raises(RunVersionError, match=r"format 2.*9\.1"):
        open_run(tmp_path, "r")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}'])
def test_a_broken_run_json_is_named_and_listed(tmp_path: Path, text: str) -> None:
    """It is an error of the store for that run, and no reason to hide the others."""
    for run_id in ("good", "broken"):
        create_run(tmp_path, run_id, "demo", {})
    (tmp_path / "broken/run.json").write_text(text)
    with pytest.raises(StoreError, match="'broken' cannot be read"):
        open_run(tmp_path, "broken")
    assert [run.id for run in list_runs(tmp_path)] == ["good", "broken"]


def test_removing_a_run_follows_no_link(tmp_path: Path) -> None:
    """What a link in the folder points to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    run = create_run(tmp_path / "artifacts", "r", "demo", {})
    (run.path / "link").symlink_to(outside)
    remove_run(run)
    assert (outside / "precious").exists()
    assert list(run.path.parent.iterdir()) == []


def test_a_linked_run_is_not_removed(tmp_path: Path) -> None:
    """A run folder that is itself a link is refused."""
    run = create_run(tmp_path / "elsewhere", "r", "demo", {})
    (tmp_path / "r").symlink_to(run.path)
    with pytest.raises(StoreError, match="is a link"):
        remove_run(open_run(tmp_path, "r"))
    assert run.record_path.exists()


def test_a_run_at_work_is_not_removed(tmp_path: Path) -> None:
    """The lock protects the folder too."""
    run = create_run(tmp_path, "r", "demo", {})
    with RunLock.acquire(run.path), pytest.raises(RunLockedError):
        remove_run(run)
    assert run.record_path.exists()


def test_reading_a_status_loads_nothing_heavy() -> None:
    """`nexa status` needs neither pyarrow nor pydantic, so it stays quick."""
    code = """import sys
from nexa_core.store import journal, manifest, runs, shards, status
assert not {'pyarrow', 'pydantic', 'numpy'} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)
