"""People's labels on rows, and what they say about judges: agreement, thresholds, corrected rates."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nexa_core.errors import UsageError
from nexa_core.records import State
from nexa_core.stats import Cell, Confusion, agree, cohens_kappa, correct_rate, propose_threshold
from nexa_core.store.files import encode_line, replace_file
from nexa_core.store.labels import (
    CALIBRATION,
    LABELS,
    Label,
    add_label,
    identify_judge,
    read_labels,
)
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["Labelling", "calibrate", "open_labelling", "warn_of_judges"]

KAPPA = 0.6
"""A judge whose agreement is not certainly over this warns in every later run."""
FEWEST = 20
_MEASURED = ("id", "state", "scores", "_criteria")


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
        columns = self.row["columns"] if self.row else {}
        return {name: str(value) for name, value in columns.items() if _is_text(name, value)}

    def say(self, verdict: str, reason: str = "") -> None:
        """Keep a verdict on the row in hand, and take the next one."""
        self.label(self.rows[self.at]["row"], verdict, reason)
        self.at += 1

    def take_back(self) -> None:
        """Take the last row in hand again, without its verdict."""
        self.at = max(0, self.at - 1)
        self.label(self.rows[self.at]["row"], "undo")

    def label(self, row: str, verdict: str, reason: str = "") -> Label:
        """Keep a verdict durably."""
        label = Label(row, verdict, reason)
        add_label(self.reviews, label)
        return label


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
    left = [row for row in drawn if row["row"] not in known]
    return Labelling(found.id, left, len(drawn) - len(left), reviews)


def _is_text(name: str, value: Any) -> bool:
    hidden = ("id", "source_id", "parent_id", "sample", "attempt", "rejection")
    endings = ("_raw_text", "_tokens", "_finish_reason")
    return value is not None and name not in hidden and not name.endswith(endings)


def calibrate(
    run: str,
    *,
    workspace: Workspace,
    labels: str | None = None,
    risk: float = 0.1,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """How each judge of a run agrees with people's labels, as JSON; kept for later runs to warn by.

    Args:
        labels: A labels file or folder; the run's own where none is given.
        risk: The share of bad rows among kept ones that a proposed threshold must not pass.

    Raises:
        UsageError: There are too few labels, or the run has no judge.
    """
    found = open_run(workspace.artifacts_path, run)
    path = Path(labels) if labels else workspace.reviews_path / found.id / LABELS
    if labels and not path.exists():
        raise UsageError(
            f"There are no labels at '{labels}'.", "Give --labels a file or a folder that is there."
        )
    said = {r: one for r, one in read_labels(path).items() if one.verdict != "skip"}
    judges = [step["judge"] for step in found.record["pipeline"]["steps"] if "judge" in step]
    if not judges:
        raise UsageError(f"Run '{found.id}' has no judge.", "Calibrate a run with a judge step.")
    rows = [row for row in _read_rows(found, ("id",)) if row["id"] in said]
    if len(rows) < FEWEST:
        raise UsageError(
            f"{len(rows)} rows of run '{found.id}' are labelled, and a judge needs {FEWEST} at least.",
            f"`nexa label {found.id}` goes on.",
        )
    accept = found.record["pipeline"].get("accept") or {}
    people = {row["id"]: said[row["id"]].verdict == "accept" for row in rows}
    every = list(_read_rows(found, _MEASURED))
    result = {
        "run": found.id,
        "labels": len(rows),
        "labels_unused": len(said) - len(rows),
        "accepted_by_people": sum(people.values()),
        "judges": [_measure(found, judge, accept, every, people, risk, alpha) for judge in judges],
    }
    _keep(workspace, found, result)
    return result


def warn_of_judges(record: Mapping[str, Any], workspace: Workspace) -> list[str]:
    """One sentence for each judge of a pipeline that people were found to disagree with."""
    path = workspace.reviews_path / CALIBRATION
    if not path.exists():
        return []
    kept = json.loads(path.read_bytes())
    warnings = []
    for step in record["pipeline"]["steps"]:
        judge = step.get("judge")
        found = judge and kept.get(identify_judge(record, judge))
        if found and found["kappa"]["lower"] < KAPPA:
            warnings.append(
                f"The judge '{judge['id']}' agreed with people by kappa {found['kappa']['value']:.2f} "
                f"(at least {found['kappa']['lower']:.2f}, over {found['n']} labels of run "
                f"'{found['run']}'), under {KAPPA}: what it accepts may not be what you would."
            )
    return warnings


def _measure(
    run: Run,
    judge: Mapping[str, Any],
    accept: Mapping[str, Any],
    every: Sequence[Mapping[str, Any]],
    people: Mapping[str, bool],
    risk: float,
    alpha: float,
) -> dict[str, Any]:
    """How a judge agrees with people over `every` row that it scored; labels stand for rows like theirs.

    Kept and rejected rows are drawn apart (`open_labelling`), so each label counts for as many rows as its
    own kind has: a judge's errors among labels alone would be those of no run.
    """
    scored = [row for row in every if row["scores"].get(judge["id"]) is not None]
    labelled = [row for row in scored if row["id"] in people]
    own = accept.get(judge["id"]) or {}
    threshold = own.get("at_least", accept.get("min_score"))
    threshold = 0.5 if threshold is None else float(threshold)
    measured: dict[str, Any] = {"judge": judge["id"], "n": len(labelled), "threshold": threshold}
    if not labelled:
        return measured

    def score(row: Mapping[str, Any]) -> float:
        return float(row["scores"][judge["id"]])

    def is_kept(row: Mapping[str, Any]) -> bool:
        return score(row) >= threshold

    good = [people[row["id"]] for row in labelled]
    cells = _sort_cells(scored, people, is_kept)
    kappa = cohens_kappa(cells, alpha)
    strata = [int(_was_kept(row)) for row in labelled]
    run_scores = [
        [score(row) for row in scored if _was_kept(row) is kind] for kind in (False, True)
    ]
    return {
        **measured,
        "identity": identify_judge(run.record, judge),
        "kappa": kappa.as_json(),
        "accuracy": agree(cells),
        "confusion": Confusion.of(good, list(map(is_kept, labelled))).as_json(),
        "kept_by_judge": sum(map(is_kept, scored)) / len(scored),
        "corrected_rate": correct_rate(cells, alpha).as_json(),
        "proposed_threshold": propose_threshold(
            list(map(score, labelled)), good, risk, alpha, strata, run_scores
        ),
        "position": _measure_position(scored, judge["id"]),
        "risk": risk,
        "alpha": alpha,
        "is_trusted": kappa.lower >= KAPPA,
    }


def _sort_cells(
    scored: Sequence[Mapping[str, Any]],
    people: Mapping[str, bool],
    is_kept: Callable[[Mapping[str, Any]], bool],
) -> list[Cell]:
    """Rows and labels by how rows were drawn (kept or rejected in the end) and by the judge's verdict."""
    rows: Counter[tuple[bool, bool]] = Counter()
    said: Counter[tuple[bool, bool, bool]] = Counter()
    for row in scored:
        kind = (_was_kept(row), is_kept(row))
        rows[kind] += 1
        if row["id"] in people:
            said[*kind, people[row["id"]]] += 1
    return [Cell(n, kind[1], said[*kind, True], said[*kind, False]) for kind, n in rows.items()]


def _measure_position(scored: Sequence[Mapping[str, Any]], judge: str) -> dict[str, int] | None:
    """Of the rows that a judge compared in both orders, those where both had one winner; else None."""
    found = [json.loads(row[f"{judge}_criteria"] or "{}") for row in scored]
    both = [one for one in found if {"forward", "backward"} <= one.keys()]
    same = sum(one["forward"] == one["backward"] for one in both)
    return {"n": len(both), "same": same} if both else None


def _was_kept(row: Mapping[str, Any]) -> bool:
    return row["state"] in (State.ACCEPTED, State.SURPLUS)


def _keep(workspace: Workspace, run: Run, result: Mapping[str, Any]) -> None:
    path = workspace.reviews_path / CALIBRATION
    kept = json.loads(path.read_bytes()) if path.exists() else {}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for one in result["judges"]:
        if "identity" in one:
            told = {key: one[key] for key in ("kappa", "n", "threshold")}
            kept[one["identity"]] = {**told, "run": run.id, "at": at}
    replace_file(path, encode_line(kept))


def _draw(run: Run, count: int, seed: int) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row in _read_rows(run):
        if row["state"] in (State.ACCEPTED, State.SURPLUS):
            kept.append(row)
        elif row["state"] == State.REJECTED and any(v is not None for v in row["scores"].values()):
            dropped.append(row)
    draw = random.Random(f"{run.id}/{seed}")
    half = min(len(dropped), count // 2)
    chosen = draw.sample(kept, min(len(kept), count - half)) + draw.sample(dropped, half)
    draw.shuffle(chosen)
    hidden = {"scores", "state", "reason", "flags", "provenance"}
    judged = {step["judge"]["id"] for step in run.record["pipeline"]["steps"] if "judge" in step}
    hidden |= {f"{name}_{part}" for name in judged for part in ("reason", "criteria")}
    return [
        {"row": row["id"], "columns": {k: v for k, v in row.items() if k not in hidden}}
        for row in chosen
    ]


def _read_rows(run: Run, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of the newest iteration and of scale, last attempts only, scores as a dict.

    `columns` are those that are read, by their own name or their ending; all unless set.
    """
    for folder in [*run.iterations()[-1:], run.scale]:
        for entry in read_manifest(folder.path):
            file = pq.ParquetFile(folder.shards / f"{entry.shard:05d}.parquet")
            names = file.schema_arrow.names
            wanted = None if columns is None else [n for n in names if n.endswith(tuple(columns))]
            # A row that was tried again stands for itself no longer; retries lie in the same shard.
            again = set(file.read(["parent_id"])["parent_id"].drop_null().to_pylist())
            for row in file.read(wanted).to_pylist():
                if row["id"] not in again:
                    yield {**row, "scores": row.get("scores") or {}}
