"""People's labels on rows: which rows a person is shown, and what is kept of each verdict."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.errors import UsageError
from nexa_core.records import State, content_hash
from nexa_core.store.labels import LABELS, Label, add_label, read_labels
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = [
    "Labelling",
    "digest_texts",
    "open_labelling",
    "read_rows",
    "read_texts",
    "was_kept",
]


@dataclass
class Labelling:
    """Rows to be labelled, blind (no score, no state) and in an order of chance; each once."""

    run: str
    rows: list[dict[str, Any]]
    done: int
    reviews: Path
    at: int = 0
    """The row in hand: its place among `rows`; their number when all have a verdict."""

    @property
    def row(self) -> dict[str, Any] | None:
        """The row in hand, None after the last."""
        return self.rows[self.at] if self.at < len(self.rows) else None

    @property
    def texts(self) -> dict[str, str]:
        """What a person reads of the row in hand: its columns without what only machines use."""
        return self.row["texts"] if self.row else {}

    def say(self, verdict: str, reason: str = "") -> None:
        """Keep a verdict on the row in hand durably, and take the next one."""
        self._keep(verdict, reason)
        self.at += 1

    def take_back(self) -> None:
        """Take the last row in hand again, without its verdict."""
        self.at = max(0, self.at - 1)
        self._keep("undo")

    def _keep(self, verdict: str, reason: str = "") -> None:
        row = self.rows[self.at]
        add_label(self.reviews, Label(row["row"], verdict, reason, seen=digest_texts(row["texts"])))


def open_labelling(run: str, *, workspace: Workspace, rows: int = 100, seed: int = 0) -> Labelling:
    """The rows of a run that are still to be labelled, of `rows` drawn by chance.

    Half are drawn from accepted and half from judged and rejected rows, where there are so many: a
    sample of accepted rows alone says nothing about what a judge wrongly rejects.

    Raises:
        UsageError: The run has no row that a person could judge.
    """
    found = open_run(workspace.artifacts_path, run)
    reviews = workspace.reviews_path / found.id
    known = read_labels(reviews / LABELS)
    drawn = _draw(found, rows, seed)
    if not drawn:
        raise UsageError(f"Run '{found.id}' has no finished row.", "`nexa resume RUN` makes some.")
    left = [row for row in drawn if not _is_known(row, known)]
    return Labelling(found.id, left, len(drawn) - len(left), reviews)


def _is_known(row: Mapping[str, Any], known: Mapping[str, Label]) -> bool:
    label = known.get(row["row"])
    return label is not None and label.seen in ("", digest_texts(row["texts"]))


def digest_texts(texts: Mapping[str, str]) -> str:
    """What a label says it was given for."""
    return content_hash(dict(texts), 16)


def read_texts(run: Run, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """What a person reads of each row: its columns without what only machines use, and no verdict."""
    judged = {step["judge"]["id"] for step in run.record["pipeline"]["steps"] if "judge" in step}
    hidden = {f"{name}_{part}" for name in judged for part in ("reason", "criteria")}
    hidden |= {"scores", "state", "reason", "flags", "provenance"}
    hidden |= {"id", "source_id", "parent_id", "sample", "attempt", "rejection"}
    endings = ("_raw_text", "_tokens", "_finish_reason")
    return {
        row["id"]: {
            name: str(value)
            for name, value in row.items()
            if value is not None and name not in hidden and not name.endswith(endings)
        }
        for row in read_rows(run, ids=ids)
    }


def was_kept(row: Mapping[str, Any]) -> bool:
    """Whether the run accepted the row."""
    return row["state"] in (State.ACCEPTED, State.SURPLUS)


def _draw(run: Run, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows by chance, half of each kind; only those that are drawn are read whole."""
    kept: list[str] = []
    dropped: list[str] = []
    for row in read_rows(run, ("id", "state", "scores")):
        if was_kept(row):
            kept.append(row["id"])
        elif row["state"] == State.REJECTED and any(v is not None for v in row["scores"].values()):
            dropped.append(row["id"])
    draw = random.Random(f"{run.id}/{seed}")
    half = min(len(dropped), count // 2)
    chosen = draw.sample(kept, min(len(kept), count - half)) + draw.sample(dropped, half)
    draw.shuffle(chosen)
    texts = read_texts(run, chosen)
    return [{"row": name, "texts": texts[name]} for name in chosen]


def read_rows(
    run: Run, columns: Sequence[str] | None = None, ids: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of the newest iteration and of scale, last attempts only, scores as a dict.

    `columns` are those that are read, by their own name or their ending, and `ids` the rows; all unless set.
    """
    for folder in [*run.iterations()[-1:], run.scale]:
        for entry in read_manifest(folder.path):
            file = pq.ParquetFile(folder.shards / f"{entry.shard:05d}.parquet")
            names = file.schema_arrow.names
            wanted = None if columns is None else [n for n in names if n.endswith(tuple(columns))]
            table = file.read(wanted and list(dict.fromkeys([*wanted, "parent_id"])))
            # A row that was tried again stands for itself no longer; retries lie in the same shard.
            again = table["parent_id"].combine_chunks().cast(pa.string()).drop_null()
            rows = pc.invert(pc.is_in(table["id"], value_set=again))
            if ids is not None:
                rows = pc.and_(rows, pc.is_in(table["id"], value_set=pa.array(ids)))
            for row in table.filter(rows).to_pylist():
                yield {**row, "scores": row.get("scores") or {}}
