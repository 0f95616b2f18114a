"""People's verdicts on rows: `labels/<date>.jsonl` beside the reviews of a run, only ever appended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_core.errors import Place, StoreError
from nexa_core.store.files import append_line, disk_errors, read_lines

__all__ = [
    "CALIBRATION",
    "LABELS",
    "VERDICTS",
    "Label",
    "add_label",
    "identify_judge",
    "read_labels",
]

LABELS = "labels"
CALIBRATION = "judges.json"
"""What was measured of judges against people, by `identify_judge`; beside the reviews of all runs."""
VERDICTS = ("accept", "reject", "skip", "undo")
"""`skip` says nothing about the row; `undo` takes back what was said of it before."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said about one row of a run."""

    row: str
    verdict: str
    reason: str = ""
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seen: str = ""
    """A digest of what was read, as rows of two runs may have one id; labels from elsewhere have none."""

    def as_json(self) -> dict[str, Any]:
        """The label as its line holds it."""
        return asdict(self)


def add_label(reviews: Path, label: Label) -> None:
    """Append a label durably to today's file of a run's reviews folder."""
    folder = reviews / LABELS
    path = folder / f"{label.at[:10]}.jsonl"
    with disk_errors(path, StoreError):
        folder.mkdir(parents=True, exist_ok=True)
        append_line(path, label.as_json())


def read_labels(path: Path) -> dict[str, Label]:
    """The last word on each row, from a labels file or a folder of them; what was undone is gone.

    Raises:
        StoreError: A line is no label.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    labels: dict[str, Label] = {}
    for file in files:
        for number, line in enumerate(_read_lines(file), 1):
            if not line.strip():
                continue
            try:
                label = Label(**json.loads(line))
                if label.verdict not in VERDICTS:
                    raise ValueError(f"'{label.verdict}' is no verdict")
            except (ValueError, TypeError) as cause:
                raise StoreError(
                    f"Line {number} of '{file.name}' is no label: {cause}.",
                    f"A label has `row`, `verdict` ({', '.join(VERDICTS)}) and `reason`.",
                    Place(str(file), number),
                ) from cause
            if label.verdict == "undo":
                labels.pop(label.row, None)
            else:
                labels[label.row] = label
    return labels


def _read_lines(file: Path) -> Iterator[bytes]:
    """Every line, the last one too where a person's editor left no line feed after it; a torn one is none."""
    yield from read_lines(file)
    last = file.read_bytes().rpartition(b"\n")[2] if file.exists() else b""
    if last.strip():
        with suppress(ValueError):
            json.loads(last)
            yield last


def identify_judge(record: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """A judge is its model and its rubric's text; one of a plugin's own may have neither."""
    role = record["pipeline"].get("models", {}).get(judge.get("model")) or {}
    stored = record["prompts"].get(judge["id"]) or {}
    parts = (role.get("model"), judge.get("rubric"), str(stored.get("hash", ""))[:16])
    return " ".join(part for part in parts if part) or str(judge.get("method"))
