"""People's labels: one key each, kept at once, taken up again; and what they say about a judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa_core.actions.calibrating import calibrate, warn_of_judges
from nexa_core.actions.labelling import open_labelling
from nexa_core.actions.running import run_pipeline
from nexa_core.cli.labels import ask_all
from nexa_core.errors import StoreError, UsageError
from nexa_core.store.labels import Label, add_label, read_labels
from nexa_core.store.layout import Run
from nexa_core.testing.chaos import serve_in_thread
from nexa_core.workspace import Workspace


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a run of sixty rows that a judge has scored."""
    workspace = Workspace(tmp_path_factory.mktemp("ws"), marked=True)
    (workspace.root / "nexa.toml").write_text("")
    rows = [{"id": f"q{n}", "prompt": f"What is {n}?"} for n in range(60)]
    (workspace.root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with serve_in_thread() as server:
        role = {"model": "vllm/chaos", "base_url": server.url, "sampling": {"max_tokens": 200}}
        step = {"model": "m", "prompt": {"user": "{{ prompt }}"}, "into": "response"}
        pipeline = {
            "nexa": 1,
            "name": "judged",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": {"m": role},
            "steps": [
                {"generate": step},
                {"judge": {"id": "factual", "model": "m", "rubric": "judge/factual"}},
            ],
            "accept": {"min_score": 0.25},
            "scale": {"rows": "all"},
        }
        (workspace.root / "p.yaml").write_text(json.dumps(pipeline))
        run_pipeline(workspace.root / "p.yaml", workspace=workspace, run_id="j")
    return workspace


def rows_by_id(workspace: Workspace) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(workspace.artifacts_path / "j/scale/shards/00000.parquet")
    return {row["id"]: row for row in table.to_pylist()}


def test_rows_are_shown_blind_and_of_both_kinds(judged: Workspace) -> None:
    """No score, state or reason is in sight, and rejected rows are among them."""
    opened = open_labelling("j", workspace=judged, rows=20)
    states = {rows_by_id(judged)[row["row"]]["state"] for row in opened.rows}
    assert states == {"accepted", "rejected"}
    shown = {name for row in opened.rows for name in row["texts"]}
    assert not shown & {"scores", "state", "reason", "factual_reason", "factual_criteria"}


def test_keys_are_kept_at_once_and_taken_up_again(judged: Workspace) -> None:
    """Accept, a key that means nothing, reject with a reason, take back, skip, end; then the rest."""
    opened = open_labelling("j", workspace=judged, rows=5, seed=7)
    keys, lines = iter("axdzsq"), iter(["wrong"])
    assert ask_all(opened, lambda: next(keys), lambda: next(lines)) == 2
    written = (judged.reviews_path / "j" / "labels").glob("*.jsonl")
    lines_of = (path.read_text().splitlines() for path in written)
    said = [json.loads(line)["verdict"] for lines in lines_of for line in lines]
    assert said == ["accept", "reject", "undo", "skip"]
    labels = read_labels(judged.reviews_path / "j" / "labels")
    assert sorted(label.verdict for label in labels.values()) == ["accept", "skip"]
    assert len(open_labelling("j", workspace=judged, rows=5, seed=7).rows) == 3


def test_a_label_holds_for_what_was_read(judged: Workspace, tmp_path: Path) -> None:
    """Rows of two runs may have one id: a label of another answer says nothing of this one."""
    opened = open_labelling("j", workspace=judged, rows=30, seed=3)
    opened.reviews = tmp_path
    count = len(opened.rows)
    while opened.row is not None:
        opened.say("accept")
    found = calibrate("j", workspace=judged, labels=str(tmp_path / "labels"))
    assert (found["labels"], found["labels_unused"]) == (count, 0)
    (path,) = (tmp_path / "labels").glob("*.jsonl")
    said = [json.loads(line) for line in path.read_text().splitlines()]
    said[0]["seen"] = "0" * 16
    path.write_text("\n".join(map(json.dumps, said)))
    found = calibrate("j", workspace=judged, labels=str(path))
    assert (found["labels"], found["labels_unused"]) == (count - 1, 1)


def test_without_a_terminal_nothing_is_asked(judged: Workspace) -> None:
    """A script is told how to give labels instead."""
    command = [sys.executable, "-m", "nexa_core", "label", "j"]
    done = subprocess.run(
        command, cwd=judged.root, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "JSON Lines" in done.stderr


def write_labels(folder: Path, workspace: Workspace, flip: int) -> Path:
    """People who agree with the judge on all but every `flip`-th row."""
    for n, (row, values) in enumerate(sorted(rows_by_id(workspace).items())):
        good = ((values["scores"]["factual"] or 0) >= 0.25) != (flip and n % flip == 0)
        add_label(folder, Label(row, "accept" if good else "reject"))
    return folder / "labels"


def test_a_judge_that_agrees_is_trusted(judged: Workspace, tmp_path: Path) -> None:
    """Kappa, confusion and the corrected rate of a judge that errs on one row in twenty."""
    path = write_labels(tmp_path, judged, 20)
    found = calibrate("j", workspace=judged, labels=str(path))["judges"][0]
    assert found["accuracy"] == pytest.approx(0.95)
    assert found["is_trusted"] and found["kappa"]["lower"] >= 0.6
    rate = found["corrected_rate"]
    assert rate["lower"] <= rate["value"] <= rate["upper"]
    assert warn_of_judges(Run(judged.artifacts_path / "j").record, judged) == []


def test_a_judge_that_does_not_warns_in_every_later_run(judged: Workspace, tmp_path: Path) -> None:
    """Wrong on every third row: the next run that uses it says so first."""
    path = write_labels(tmp_path, judged, 3)
    assert not calibrate("j", workspace=judged, labels=str(path))["judges"][0]["is_trusted"]
    (warning,) = warn_of_judges(Run(judged.artifacts_path / "j").record, judged)
    assert "'factual' agreed with people by kappa" in warning


def test_few_labels_of_each_kind_stand_for_all_rows(judged: Workspace, tmp_path: Path) -> None:
    """Ten labels of kept and ten of rejected rows, by people who keep everything: every row is good."""
    rows = rows_by_id(judged)
    for state in ("accepted", "rejected"):
        for row in [r for r, values in rows.items() if values["state"] == state][:10]:
            add_label(tmp_path, Label(row, "accept"))
    add_label(tmp_path, Label("of-another-run", "accept"))
    found = calibrate("j", workspace=judged, labels=str(tmp_path / "labels"))
    judge = found["judges"][0]
    kept = sum((v["scores"]["factual"] or 0) >= 0.25 for v in rows.values()) / len(rows)
    assert judge["corrected_rate"]["value"] == 1.0 and judge["accuracy"] == pytest.approx(kept)
    assert (found["labels"], found["labels_unused"]) == (20, 1)


def test_too_few_labels_measure_nothing(judged: Workspace, tmp_path: Path) -> None:
    """Three labels are no calibration."""
    for row in list(rows_by_id(judged))[:3]:
        add_label(tmp_path, Label(row, "accept"))
    with pytest.raises(UsageError, match="needs 20 at least"):
        calibrate("j", workspace=judged, labels=str(tmp_path / "labels"))
    with pytest.raises(UsageError, match=r"no labels at 'gone\.jsonl'"):
        calibrate("j", workspace=judged, labels="gone.jsonl")


def test_a_line_that_is_no_label_is_named(tmp_path: Path) -> None:
    """File and line, and what a label is; a last line without a line feed counts, a torn one does not."""
    for last, count in (('{"row": "b", "verdict": "reject"}', 2), ('{"row": "b", "ver', 1)):
        (tmp_path / "l.jsonl").write_text('{"row": "a", "verdict": "accept"}\n' + last)
        assert len(read_labels(tmp_path / "l.jsonl")) == count
    (tmp_path / "l.jsonl").write_text('{"row": "a", "verdict": "accept"}\n{"row": "b"}\n')
    with pytest.raises(StoreError, match="Line 2"):
        read_labels(tmp_path / "l.jsonl")
