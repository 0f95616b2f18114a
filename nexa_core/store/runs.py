"""The runs of a workspace: created once, found again, listed and removed."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from nexa_core.errors import Place, StoreError, UnknownNameError, UsageError
from nexa_core.store.files import (
    disk_errors,
    encode_line,
    make_folder,
    sync_folder,
    write_all,
)
from nexa_core.store.layout import FORMAT, RECORD, Run, ShardFolder
from nexa_core.store.lock import RunLock

__all__ = [
    "FORMAT",
    "Run",
    "ShardFolder",
    "create_run",
    "find_run",
    "list_runs",
    "open_run",
    "remove_run",
]

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = {"latest", "none"}


def create_run(artifacts: Path, run_id: str | None, name: str, record: Mapping[str, Any]) -> Run:
    """Create a run's folder (mode 0700) with its run.json, whole or not at all.

    Args:
        run_id: None for `<name>-<YYYYMMDD-HHMMSS>`, with a number behind it where that is taken.
        record: The run.json; `format`, `run`, `name` and `created_at` are added.

    Raises:
        UsageError: the id is no id, or taken.
    """
    now = datetime.now(UTC)
    stem = run_id or f"{_simplify_name(name)}-{now:%Y%m%d-%H%M%S}"
    _check_id(stem)
    make_folder(artifacts)
    for number in range(1, 1000):
        run = Run(artifacts / (stem if number == 1 else f"{stem}-{number}"))
        head = {"format": FORMAT, "run": run.id, "name": name}
        head["created_at"] = now.isoformat(timespec="microseconds")
        if _publish(run.path, {**record, **head}):
            return run
        if run_id is not None:
            break
    fix = f"Give another --run-id, or `nexa runs rm {stem}` first."
    raise UsageError(f"A run called '{stem}' exists already.", fix, Place(str(artifacts / stem)))


def find_run(artifacts: Path, run_id: str, pipeline_hash: str) -> Run | None:
    """The run that `--run-id` takes up again: same id, same pipeline. None when the id is free.

    Raises:
        UsageError: the id belongs to a run of another pipeline.
    """
    _check_id(run_id)
    run = Run(artifacts / run_id)
    if not run.record_path.exists():
        return None
    if run.pipeline_hash == pipeline_hash:
        return run
    raise UsageError(
        f"Run '{run_id}' exists and has another pipeline: {run.pipeline_hash[:12]} there, "
        f"{pipeline_hash[:12]} here.",
        f"Give another --run-id, or continue the old one as it was with `nexa resume {run_id}`.",
        Place(str(run.record_path)),
    )


def open_run(artifacts: Path, run_id: str) -> Run:
    """An existing run by id; `latest` is the one created last.

    Raises:
        UnknownNameError: there is no such run; near names are listed.
        RunVersionError: a newer nexa wrote it.
    """
    if run_id == "latest":
        runs = list_runs(artifacts)
        if not runs:
            raise UsageError(f"There is no run in '{artifacts}'.", "`nexa run FILE` makes one.")
        return _checked(runs[0])
    if _ID.fullmatch(run_id) and (artifacts / run_id / RECORD).is_file():
        return _checked(Run(artifacts / run_id))
    known = [run.id for run in list_runs(artifacts)]
    near = difflib.get_close_matches(run_id, known, n=5) or known[:5]
    raise UnknownNameError("run", run_id, near, fix="`nexa runs list` shows all.")


def list_runs(artifacts: Path) -> list[Run]:
    """Every run, the one newest first; those whose run.json cannot be read come last."""
    runs = [
        Run(path.parent)
        for path in artifacts.glob(f"*/{RECORD}")
        if _ID.fullmatch(path.parent.name)
    ]
    return sorted(runs, key=_order, reverse=True)


def remove_run(run: Run) -> None:
    """Delete a run's folder. Links in it are deleted, what they point to is not.

    Raises:
        RunLockedError: a process works on it.
        StoreError: the folder is itself a link.
    """
    if run.path.is_symlink():
        fix = "Remove the link, or the folder it points to, by hand."
        raise StoreError(
            f"Run '{run.id}' is a link and was not removed.", fix, Place(str(run.path))
        )
    with RunLock.acquire(run.path), disk_errors(run.path, StoreError):
        # Renamed first: a removal that is cut short must not leave half a run behind.
        doomed = run.path.with_name(f".{run.id}.{os.getpid()}.tmp")
        run.path.rename(doomed)
        shutil.rmtree(doomed)


def _check_id(run_id: str) -> None:
    if not _ID.fullmatch(run_id) or run_id in _RESERVED:
        fix = (
            "Use up to 64 of a-z, 0-9, '.', '_', '-', letter or digit first; not 'latest', 'none'."
        )
        raise UsageError(f"'{run_id}' is no run id.", fix)


def _simplify_name(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:44] or "run"


def _publish(path: Path, record: Mapping[str, Any]) -> bool:
    """Make the folder with its run.json under another name, then rename it: all or nothing."""
    with disk_errors(path, StoreError):
        temporary = Path(mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        fd = os.open(temporary / RECORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(fd, encode_line(record))
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(temporary)
        try:
            if path.exists():
                raise FileExistsError
            temporary.rename(path)
        except OSError:
            shutil.rmtree(temporary)
            if path.exists():
                return False
            raise
        sync_folder(path.parent)
        return True


def _checked(run: Run) -> Run:
    _ = run.record
    return run


def _order(run: Run) -> tuple[str, str]:
    try:
        return str(run.record.get("created_at", "")), run.id
    except StoreError:
        return "", run.id
