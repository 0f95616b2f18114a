"""The records of a run on disk: appended, read, and checked against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nexa_core.errors import Place, StoreError
from nexa_core.reviews.markdown import render_review
from nexa_core.reviews.record import Review
from nexa_core.reviews.signing import check_signature
from nexa_core.store.files import disk_errors, replace_file

__all__ = ["count_records", "find_head", "read_reviews", "verify_chain", "write_review"]

_BROKEN = (ValueError, TypeError, KeyError, AttributeError)
"""What an edited record can raise when it is read as one."""


def write_review(folder: Path, review: Review) -> Review:
    """Append a record to the run's chain, JSON and Markdown, and return it as written.

    Each file is written aside, forced to disk and renamed, the JSON last: a record that is there is
    whole. The same decision made again after a kill is not written twice.

    Raises:
        StoreError: The folder cannot be written, or a record in it cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_reviews(folder)
    last = earlier[-1] if earlier else None
    if last and last.identity == review.identity:
        return last
    numbered = replace(
        review,
        number=last.number + 1 if last else 1,
        previous=last.hash if last else "",
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        hash="",
    )
    sealed = Review.from_json({**numbered.as_json(), "hash": numbered.seal()})
    path = folder / sealed.file_name
    with disk_errors(path, StoreError):
        replace_file(path.with_suffix(".md"), render_review(sealed).encode())
        replace_file(path, sealed.as_bytes())
    return sealed


def read_reviews(folder: Path, phase: str | None = None) -> tuple[Review, ...]:
    """The records of a run in order, or those of one phase; none where nothing was decided yet."""
    found = (_read(path) for path in _list(folder))
    return tuple(review for review in found if phase in (None, review.phase))


def count_records(folder: Path) -> int:
    """How many records there are, sound or not."""
    return len(_list(folder))


def find_head(folder: Path) -> str:
    """The hash of the last record, which holds all before it; "" without one."""
    paths = _list(folder)
    return _read(paths[-1]).hash if paths else ""


def verify_chain(folder: Path, head: str | None = None) -> tuple[str, ...]:
    """What is wrong with a run's records, a sentence each; empty when nothing is.

    Finds every edited byte, a missing or exchanged record, and, where the chain head that events
    or a dataset hold is given, a tail that was cut off or written anew.
    """
    problems: list[str] = []
    before: Review | None = None
    for number, path in enumerate(_list(folder), 1):
        review = None
        try:
            review = _read(path)
            found = _check(path, review, number, before)
        except StoreError as error:
            found = [error.problem]
        except _BROKEN:
            found, review = ["its content is not what was written."], None
        before = review
        problems += [f"{path.name}: {what}" for what in found]
    previous = before.hash if before else ""
    if head is not None and head != previous:
        problems.append(
            f"The chain ends with {previous[:12] or 'nothing'}, not with {head[:12] or 'nothing'}: "
            "records at its end were removed, added or changed."
        )
    return tuple(problems)


def _check(path: Path, review: Review, number: int, before: Review | None) -> list[str]:
    if review.hash != review.seal() or review.as_bytes() != path.read_bytes():
        return ["its content is not what was written."]
    problems = []
    if path.name != review.file_name or review.number != number:
        problems.append(f"it stands at place {number} and says that it is {review.file_name}.")
    if review.previous != (before.hash if before else ""):
        problems.append("the record before it is not the one it followed.")
    problems += check_signature(review, before)
    markdown = path.with_suffix(".md")
    if not markdown.exists() or markdown.read_bytes() != render_review(review).encode():
        problems.append(f"'{markdown.name}' does not say what the record says.")
    return problems


def _list(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]-*.json"))


def _read(path: Path) -> Review:
    try:
        return Review.from_json(json.loads(path.read_bytes()))
    except OSError as cause:
        raise StoreError(f"it cannot be read: {cause.strerror}.", "", Place(str(path))) from cause
    except _BROKEN as cause:
        raise StoreError(
            "it is no review record.",
            "Restore it from a copy: a record is never repaired.",
            Place(str(path)),
        ) from cause
