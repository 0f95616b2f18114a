"""Signing: a person decides what waits for one, or overrides what the gate decided."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core.documents import parse_yaml
from nexa_core.errors import Place, RunLockedError, UsageError
from nexa_core.events import GateDecided, ParametersChanged
from nexa_core.records import Decision
from nexa_core.reviews import Review, open_key, read_reviews, sign_review, write_review
from nexa_core.store.events import EventLog
from nexa_core.store.lock import RunLock, find_owner
from nexa_core.store.manifest import read_manifest, total_entries
from nexa_core.store.runs import Run, open_run
from nexa_core.workspace import Workspace

__all__ = ["find_signer", "require_signable", "sign"]

_FEWEST_DIGITS = 8
"""Of a hash: fewer are the number of a record."""
SIGNABLE = (Decision.PROCEED, Decision.ITERATE, Decision.STOP)


def sign(
    run: str,
    decision: Decision | str,
    reason: str,
    sets: Sequence[str] | Mapping[str, Any] | None = None,
    *,
    workspace: Workspace,
    review: str | None = None,
    signer: str | None = None,
) -> Review:
    """Sign a decision over a run's last record; a resumed run goes on from it.

    Args:
        sets: For ITERATE, `PATH=VALUE` texts or a mapping; without any, what the reviewers proposed.
        review: The hash, its beginning, or the number of the record that the person saw.
        signer: Who signs; else the name git knows, else the account's.

    Raises:
        UsageError: Nothing waits for a person, it is signed already, its evidence was replaced, or
            the decision itself cannot be signed.
        RunLockedError: The run is being worked on, or somebody signs at this moment.
    """
    found = open_run(workspace.artifacts_path, run)
    changes = _read_sets(sets) if sets is not None else None
    wanted = Decision(decision)
    if wanted not in SIGNABLE:
        raise UsageError(f"{wanted} cannot be signed.", "Sign --proceed, --iterate or --stop.")
    with _holding(found):
        seen = require_signable(found, workspace, review)
        if wanted == seen.decision and not seen.waiting and not changes:
            raise UsageError(
                f"The gate has decided {wanted} by itself: there is nothing to sign.",
                f"`nexa resume {found.id}` goes on.",
            )
        who = signer or find_signer(workspace)
        key = open_key(workspace.root)
        signed = sign_review(seen, wanted, reason, changes, who, key)
        written = write_review(workspace.reviews_path / found.id, signed)
        _announce(found, written)
    return written


def require_signable(run: Run, workspace: Workspace, review: str | None = None) -> Review:
    """The record of a run that a person can sign now: its last, with nothing made since.

    Raises:
        UsageError: Why there is none.
    """
    reviews = read_reviews(workspace.reviews_path / run.id)
    if not reviews:
        raise UsageError(
            f"The gate of run '{run.id}' has decided nothing yet.",
            f"`nexa status {run.id}` says where it stands.",
        )
    last = reviews[-1]
    if last.signature is not None:
        raise UsageError(
            f"Record {last.number} is signed already: {last.reason}",
            f"`nexa resume {run.id}` goes on from it.",
        )
    if review is not None and not _is_named(last, review):
        raise UsageError(
            f"What you saw, record {review[:12]}, is no longer the last: record {last.number} is.",
            f"Look again: `nexa gate show {run.id}`.",
        )
    if last.decision == Decision.EXTEND:
        raise UsageError(
            f"Record {last.number} asks for {last.extend_rows} rows more: nothing is decided yet.",
            f"`nexa resume {run.id}` measures them.",
        )
    gone_on = _find_progress(run, last)
    if gone_on:
        raise UsageError(
            f"Record {last.number} is decided ({last.phase}: {last.decision}), and {gone_on}.",
            "A decision can be signed as long as nothing was made from it.",
        )
    return last


def find_signer(workspace: Workspace) -> str:
    """Who works here: the name that git knows, else the account's."""
    command = ["git", "-C", str(workspace.root), "config", "user.name"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        name = found.stdout.strip()
    except OSError:
        name = ""
    if name:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _find_progress(run: Run, review: Review) -> str | None:
    """What was made since a decision; None when nothing was."""
    if review.phase != "pilot":
        goes_on = review.decision == Decision.PROCEED and not review.waiting
        return "the run went on from it" if goes_on else None
    for number, folder in enumerate(run.iterations(), 1):
        if number > review.iteration and read_manifest(folder.path):
            return f"the run has gone on to iteration {number}"
    if read_manifest(run.scale.path):
        return "rows have been scaled since"
    if (run.dataset / "manifest.json").exists():
        return "a dataset has been made since"
    rows = total_entries(read_manifest(run.iteration(review.iteration).path)).source_rows
    if rows != review.look.rows:
        return f"its evidence was replaced: it saw {review.look.rows} rows, and there are {rows}"
    return None


def _holding(run: Run) -> RunLock:
    try:
        return RunLock.acquire(run.path)
    except RunLockedError as error:
        owner = find_owner(run.path)
        who = f"process {owner.pid} since {owner.started}" if owner else "another process"
        raise RunLockedError(
            f"Run '{run.id}' is in the hands of {who}: it runs, or somebody signs it.",
            f"Sign when it waits or has ended; `nexa stop {run.id}` ends it.",
        ) from error


def _announce(run: Run, review: Review) -> None:
    assert review.signature is not None
    log = EventLog.open(run.path)
    try:
        signer = str(review.signature["signer"])
        log.append(
            GateDecided(
                review.iteration,
                review.decision,
                list(review.checks),
                review.hash,
                review.reason,
                signer=signer,
                phase=review.phase,
            )
        )
        if review.changes:
            changes = dict(review.changes)
            log.append(ParametersChanged(review.iteration, changes, review.patch_reason))
    finally:
        log.close()


def _is_named(review: Review, name: str) -> bool:
    """Whether a number, or a hash or its beginning, means this record."""
    if name.isdigit() and len(name) < _FEWEST_DIGITS:
        return int(name) == review.number
    return len(name) >= _FEWEST_DIGITS and review.hash.startswith(name)


def _read_sets(sets: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(sets, Mapping):
        return dict(sets)
    changes: dict[str, Any] = {}
    for text in sets:
        path, equals, value = text.partition("=")
        place = f"--set {text}"
        if not equals or not path.strip():
            raise UsageError(f"'{place}' sets nothing.", "Write --set PATH=VALUE.", Place(place))
        changes[path.strip()] = parse_yaml(value, place, UsageError).data
    return changes
