"""What people's labels say about judges: agreement, thresholds, corrected rates, and the warnings that follow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa_core.actions.labelling import digest_texts, read_rows, read_texts, was_kept
from nexa_core.errors import UsageError
from nexa_core.stats import (
    Cell,
    Confusion,
    agree,
    cohens_kappa,
    correct_rate,
    propose_threshold,
)
from nexa_core.store.files import encode_line, replace_file
from nexa_core.store.labels import CALIBRATION, LABELS, identify_judge, read_labels
from nexa_core.store.layout import Run
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["calibrate", "warn_of_judges"]

KAPPA = 0.6
"""A judge whose agreement is not certainly over this warns in every later run."""
FEWEST = 20
_MEASURED = ("id", "state", "scores", "_criteria")


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
    texts = read_texts(found, list(said))
    rows = [row for row in texts if said[row].seen in ("", digest_texts(texts[row]))]
    if len(rows) < FEWEST:
        raise UsageError(
            f"{len(rows)} rows of run '{found.id}' are labelled, and a judge needs {FEWEST} at least.",
            f"`nexa label {found.id}` goes on.",
        )
    accept = found.record["pipeline"].get("accept") or {}
    people = {row: said[row].verdict == "accept" for row in rows}
    every = list(read_rows(found, _MEASURED))
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
    strata = [int(was_kept(row)) for row in labelled]
    run_scores = [[score(row) for row in scored if was_kept(row) is kind] for kind in (False, True)]
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
        kind = (was_kept(row), is_kept(row))
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


def _keep(workspace: Workspace, run: Run, result: Mapping[str, Any]) -> None:
    path = workspace.reviews_path / CALIBRATION
    kept = json.loads(path.read_bytes()) if path.exists() else {}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for one in result["judges"]:
        if "identity" in one:
            told = {key: one[key] for key in ("kappa", "n", "threshold")}
            kept[one["identity"]] = {**told, "run": run.id, "at": at}
    replace_file(path, encode_line(kept))
