"""Several runs as one dataset: duplicates, splits, other data, what never goes together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.merging import package_runs
from nexa_core.engine.splitting import Split, Splits
from nexa_core.errors import SourceError, UsageError
from nexa_core.workspace import Workspace

PIPELINE = {
    "nexa": 1,
    "name": "audit",
    "steps": [{"check": ["empty", {"length": {"min_chars": 5}}]}],
    "pilot": {"rows": "all", "max_iterations": 1},
    "package": {"format": "messages", "validation": 0.2},
}


@pytest.fixture
def make_run(workspace: Workspace, write_rows: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Runs an audit of rows `first` … `last` and packages what it accepts."""
    from nexa_core.actions import running

    def run(name: str, first: int, last: int, **changes: Any) -> dict[str, Any]:
        rows = [
            {"id": f"q{n}", "instruction": f"Question {n}?", "response": f"Answer {n}"}
            for n in range(first, last)
        ]
        rows.append({"id": f"bad {name}", "instruction": "Bad?", "response": ""})
        source = {"path": write_rows(rows, f"{name}.jsonl"), "id": "id", "licence": "CC0-1.0"}
        pipeline = {**PIPELINE, "source": source, **changes}
        file = workspace.root / f"{name}.yaml"
        file.write_text(json.dumps(pipeline))
        return dict(running.run_pipeline(file, workspace=workspace, run_id=name).as_json())

    return run


def read_split(folder: Path, split: str) -> list[dict[str, Any]]:
    files = sorted((folder / "data").glob(f"{split}-*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_runs_become_one_dataset(workspace: Workspace, make_run: Any) -> None:
    """Equal texts are kept once, every source stays where its run had it, every run is named."""
    for name, first, last, seed in (("one", 0, 40, 0), ("two", 30, 80, 7)):
        make_run(name, first, last, seed=seed)
    made = package_runs(["one", "two"], workspace=workspace)
    folder = Path(made["dataset"])
    assert made["rows"]["dropped_duplicates"] == made["reasons"]["duplicate"] == 10
    assert made["rows"]["train"] + made["rows"]["validation"] == 80
    own = workspace.artifacts_path
    for split, other in (("train", "validation"), ("validation", "train")):
        ids = {row["id"] for row in read_split(folder, split)}
        assert {row["id"] for row in read_split(own / "one/dataset", split)} <= ids
        moved = {row["id"] for row in read_split(own / "two/dataset", other)} & ids
        assert all(int(each[1:]) < 40 for each in moved)
    assert {row["provenance"]["run"] for row in read_split(folder, "train")} == {"one", "two"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [part["run"] for part in manifest["parts"]] == ["one", "two"]
    card = (folder / "README.md").read_text()
    for told in ("| all |  | 92 | 90 | 97.8% |", "CC0-1.0", "| `duplicate` | −10 |", "No judge"):
        assert told in card


def test_other_data_goes_in_by_share(workspace: Workspace, make_run: Any, write_rows: Any) -> None:
    """Mixed rows make up the share, are marked, and are named on the card with their licence."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    other = [{"prompt": f"Other {n}?", "completion": "Yes."} for n in range(30)]
    chats = [{"messages": [*turns, {"role": "user", "content": f"And {n}?"}, turns[1]]}
             for n in range(30)]  # fmt: skip
    mix = [
        {"path": write_rows(other, "other.jsonl"), "licence": "MIT", "share": 0.2},
        {"path": write_rows(chats, "chats.jsonl"), "licence": "CC-BY-4.0", "share": 0.1},
    ]
    package = {**PIPELINE["package"], "mix": mix}  # type: ignore[dict-item]
    make_run("one", 0, 70, package=package)
    folder = workspace.artifacts_path / "one" / "dataset"
    rows = read_split(folder, "train") + read_split(folder, "validation")
    marked = [row["mixed_from"] for row in rows]
    assert (marked.count("other.jsonl"), marked.count("chats.jsonl")) == (20, 10)
    assert marked.count(None) == 70
    chat = next(row for row in rows if row["mixed_from"] == "chats.jsonl")
    assert [turn["role"] for turn in chat["messages"]] == ["user", "assistant", "user", "assistant"]
    card = (folder / "README.md").read_text()
    assert "| `other.jsonl` | MIT | 20 of 20 wanted (20%) |" in card


def test_contaminated_rows_are_not_mixed_in(
    workspace: Workspace, make_run: Any, write_rows: Callable[..., str]
) -> None:
    """The pipeline's own check sees them: other numbers, words around, conversations; and the card says so."""
    item = "Janet's ducks lay 16 eggs per day. She eats three for breakfast. How many are left?"
    write_rows([{"question": item}], "items.jsonl")
    others = [{"prompt": f"Pair {n}?", "completion": f"It is {n}."} for n in range(8)]
    asked = [{"role": "user", "content": f"Solve this. {item.replace('16', '99')} Think first."}]
    chat = {"messages": [*asked, {"role": "assistant", "content": "13"}]}
    write_rows([*others, {"prompt": item.upper(), "completion": "13"}, chat], "others.jsonl")
    mix = [{"path": "others.jsonl", "licence": "MIT", "share": 0.4}]
    steps = [{"check": ["empty", {"decontamination": {"items": ["items.jsonl"]}}]}]
    make_run("clean", 0, 40, steps=steps, package={**PIPELINE["package"], "mix": mix})  # type: ignore[dict-item]
    folder = workspace.artifacts_path / "clean/dataset"
    rows = [*read_split(folder, "train"), *read_split(folder, "validation")]
    assert sum(row["mixed_from"] == "others.jsonl" for row in rows) == 8
    assert "8 of 27 wanted (40%) | 2 decontamination" in (folder / "README.md").read_text()
    steps = [{"check": [{"decontamination": {"items": ["items.jsonl"], "columns": ["id"]}}]}]
    with pytest.raises(UsageError, match="which rows of `mix` do not have"):
        make_run("odd", 0, 9, steps=steps, package={**PIPELINE["package"], "mix": mix})  # type: ignore[dict-item]


def test_what_cannot_be_mixed_is_refused(
    workspace: Workspace, make_run: Any, write_rows: Any
) -> None:
    """A file of another form, and one without a licence, are errors that say so."""
    path = write_rows([{"text": "no pair"}], "text.jsonl")
    mix = [{"path": path, "licence": "MIT", "share": 0.2}]
    with pytest.raises(SourceError, match="neither `messages` nor"):
        make_run("one", 0, 10, package={**PIPELINE["package"], "mix": mix})  # type: ignore[dict-item]
    bare = [{"path": path, "share": 0.2}]
    with pytest.raises(UsageError, match="licence"):
        make_run("two", 0, 10, package={**PIPELINE["package"], "mix": bare})  # type: ignore[dict-item]


def test_a_rehearsal_never_goes_among_real_runs(workspace: Workspace, make_run: Any) -> None:
    """Naming a rehearsal beside a real run is an error."""
    for name in ("one", "two"):
        make_run(name, 0, 10)
    path = workspace.artifacts_path / "two" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rehearsal": True}))
    with pytest.raises(UsageError, match="'two' is a rehearsal"):
        package_runs(["one", "two"], workspace=workspace)


def test_the_first_run_decides_where_a_source_goes() -> None:
    """A source of two runs is where the first had it, and is counted where the second disagrees."""
    ids = [f"s{n}" for n in range(1000)]
    first, second = Split.over(0, 0.5, ids[:600]), Split.over(1, 0.5, ids[400:])
    splits = Splits([first, second])
    for name in ids[:600]:
        assert splits.holds_out(name) == first.holds_out(name)
    assert splits.moved == sum(first.holds_out(s) != second.holds_out(s) for s in ids[400:600])
    assert all(splits.holds_out(name) == second.holds_out(name) for name in ids[600:])
