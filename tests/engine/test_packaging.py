"""Packaging: what goes into a dataset, how it is split, and that it is whole or absent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.engine import packaging as packaging_module
from nexa_core.engine.items import normalise_text
from nexa_core.engine.packaging import Origin, Packaging, package
from nexa_core.engine.sources import SourceRow, sample_rows
from nexa_core.engine.splitting import place_source
from nexa_core.errors import ManifestError, StoreError, UsageError
from nexa_trl.exporters import Messages, PromptCompletion

PROVENANCE = {
    "run": "r1",
    "iteration": 0,
    "shard": 0,
    "code_commit": None,
    "steps": [{"step": "answer", "model": "m", "call_ids": ["c1"]}],
}
ORIGIN = Origin(
    runs=("r1",), name="demo", pipeline_hash="abc", decision="PROCEED", command="nexa package r1"
)


def make_row(
    number: int, state: str = "accepted", reason: str | None = None, **columns: object
) -> dict:
    return {
        "instruction": f"What is fact {number}?",
        "response": f" Fact {number}. ",
        "id": f"row-{number}",
        "source_id": f"source-{number // 2}",
        "sample": number % 2,
        "scores": {"clear": 1.5},
        "flags": [],
        "state": state,
        "reason": reason,
        "provenance": PROVENANCE,
        **columns,
    }


def make_step(name: str, model: str, **sampling: object) -> dict:
    return {
        "step": name,
        "kind": "generate",
        "models": [model],
        "prompt": None,
        "sampling": sampling,
    }


def make_part(run: str, **told: object) -> dict:
    """What a run brought, as the manifest says it: 37 of 41 rows accepted, two of the rest tried twice."""
    facts = {
        "decision": "PROCEED",
        "review_head": "h1",
        "rows": {"accepted": 37, "rejected": 4},
        "retried": 2,
    }
    nothing: dict = {
        "accept": None,
        "source": None,
        "cost_nano": {},
        "at_risk_nano": {},
        "models": {},
    }
    lists: dict = {"checks": [], "steps": [], "judges": []}
    return {"run": run, "pipeline_hash": f"hash-{run}", **facts, **nothing, **lists, **told}


def write_shards(folder: Path, rows: list[dict], size: int = 50) -> list[Path]:
    paths = []
    for start in range(0, len(rows), size):
        path = folder / f"{len(paths):05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[start : start + size]), path)
        paths.append(path)
    return paths


def make_packaging(template: str = "{{ prompt }}\n", **changes: object) -> Packaging:
    settings = {
        "exporter": PromptCompletion(),
        "format": "prompt-completion",
        "prompt": "instruction",
        "completion": "response",
        "template": template,
    }
    return Packaging(**{**settings, **changes})


def read_split(folder: Path, split: str) -> list[dict]:
    return [
        row
        for p in sorted(folder.glob(f"{split}-*.parquet"))
        for row in pq.read_table(p).to_pylist()
    ]


def test_a_dataset_holds_every_row_once(tmp_path: Path) -> None:
    """Accepted rows are trained on, all others lie in rejected with their reason."""
    rows = [make_row(n) for n in range(120)]
    rows += [
        make_row(200, "rejected", "runaway"),
        make_row(201, "failed", "timeout: 30 s"),
        make_row(202, "surplus"),
    ]
    result = package(write_shards(tmp_path, rows), tmp_path / "dataset", make_packaging(), ORIGIN)
    kept = read_split(result.folder / "data", "train") + read_split(
        result.folder / "data", "validation"
    )
    out = read_split(result.folder / "rejected", "rejected")
    assert sorted(r["id"] for r in kept + out) == sorted(r["id"] for r in rows)
    assert {r["id"]: r["reason"] for r in out} == {
        "row-200": "runaway",
        "row-201": "timeout: 30 s",
        "row-202": None,
    }
    counts = result.manifest["rows"]
    assert counts["train"] + counts["validation"] == 120
    assert (counts["rejected"], counts["failed"], counts["surplus"]) == (1, 1, 1)
    assert result.manifest["reasons"] == {"runaway": 1, "timeout": 1}


def test_a_row_keeps_its_provenance(tmp_path: Path) -> None:
    """A training row is prompt and completion, and says where it came from."""
    result = package(
        write_shards(tmp_path, [make_row(n) for n in range(40)]),
        tmp_path / "d",
        make_packaging(),
        ORIGIN,
    )
    row = next(r for r in read_split(result.folder / "data", "train") if r["id"] == "row-4")
    assert (row["prompt"], row["completion"]) == ("What is fact 4?\n", "Fact 4.")
    assert row["provenance"]["steps"][0]["call_ids"] == ["c1"]
    assert row["scores"] == {"clear": 1.5}
    lines = (result.folder / "train.jsonl").read_text().splitlines()
    assert {"prompt": "What is fact 4?\n", "completion": "Fact 4.", "id": "row-4"} in map(
        json.loads, lines
    )


def test_the_split_never_parts_a_source(tmp_path: Path) -> None:
    """All rows of a source are in one split, about the wanted share is held out, every time."""
    shards = write_shards(tmp_path, [make_row(n) for n in range(2000)], size=500)
    one = package(shards, tmp_path / "one", make_packaging(validation=0.1), ORIGIN)
    two = package(shards, tmp_path / "two", make_packaging(validation=0.1), ORIGIN)
    other = package(shards, tmp_path / "three", make_packaging(validation=0.1, seed=1), ORIGIN)
    train = {r["source_id"] for r in read_split(one.folder / "data", "train")}
    held = {r["source_id"] for r in read_split(one.folder / "data", "validation")}
    assert not train & held
    assert 65 < len(held) < 135
    assert (
        one.manifest["files"]["data/train-00000-of-00001.parquet"]
        == two.manifest["files"]["data/train-00000-of-00001.parquet"]
    )
    assert held != {r["source_id"] for r in read_split(other.folder / "data", "validation")}


@pytest.mark.parametrize(
    ("rows", "validation", "held"), [(4, 0.01, 1), (4, 0.99, 1), (2, 0.5, 0), (40, 0.0, 0)]
)
def test_small_sets_keep_both_splits(
    tmp_path: Path, rows: int, validation: float, held: int
) -> None:
    """Two sources give one to each split, one source trains, share 0 holds nothing out."""
    shards = write_shards(tmp_path, [make_row(n) for n in range(rows)])
    result = package(shards, tmp_path / "d", make_packaging(validation=validation), ORIGIN)
    assert len({r["source_id"] for r in read_split(result.folder / "data", "validation")}) == held


def test_rows_of_the_evaluation_are_dropped(tmp_path: Path) -> None:
    """A row that asks what an evaluation item asks is left out and counted, whatever its case."""
    items = frozenset({normalise_text("what is FACT 7")})
    shards = write_shards(tmp_path, [make_row(n) for n in range(40)])
    result = package(
        shards, tmp_path / "d", make_packaging(evaluation=items, evaluation_name="items"), ORIGIN
    )
    assert result.manifest["rows"]["dropped_eval_matches"] == 1
    out = read_split(result.folder / "rejected", "rejected")
    assert [(r["id"], r["reason"]) for r in out] == [("row-7", "evaluation_match")]


def test_rows_without_an_answer_are_left_out(tmp_path: Path) -> None:
    """An accepted row that has nothing to train on goes to rejected with the reason."""
    rows = [make_row(n) for n in range(10)] + [
        make_row(10, response=" "),
        make_row(11, instruction=None),
    ]
    result = package(write_shards(tmp_path, rows), tmp_path / "d", make_packaging(), ORIGIN)
    out = {r["id"]: r["reason"] for r in read_split(result.folder / "rejected", "rejected")}
    assert out == {"row-10": "no_completion", "row-11": "no_prompt"}
    assert result.manifest["rows"]["dropped_incomplete"] == 2


def test_the_messages_format_makes_conversations(tmp_path: Path) -> None:
    """Messages hold what the user asked and the answer, or continue the row's own conversation."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    shards = write_shards(tmp_path, [make_row(n, turns=turns) for n in range(4)])
    chat = {"exporter": Messages(), "format": "messages", "validation": 0.0}
    answer = {"role": "assistant", "content": "Fact 0."}
    for prompt, asked in (
        ("instruction", [{"role": "user", "content": "What is fact 0?"}]),
        ("turns", turns),
    ):
        settings = make_packaging("{{ prompt }}", prompt=prompt, **chat)
        result = package(shards, tmp_path / "d", settings, ORIGIN)
        row = read_split(result.folder / "data", "train")[0]
        assert row["messages"] == [*asked, answer]


def test_shards_may_differ_in_columns(tmp_path: Path) -> None:
    """Shards of several runs go together where their columns can be read as one."""
    rows = [make_row(0, extra=None), make_row(2, extra="x", scores={"answers": 1.0})]
    result = package(
        write_shards(tmp_path, rows, size=1), tmp_path / "d", make_packaging(validation=0.0), ORIGIN
    )
    scores = [r["scores"] for r in read_split(result.folder / "data", "train")]
    assert scores == [{"clear": 1.5, "answers": None}, {"clear": None, "answers": 1.0}]


def test_a_column_that_changes_its_type_becomes_text(tmp_path: Path) -> None:
    """Numbers stay numbers where one type holds all of them; else each value is as JSON writes it."""
    rows = [
        make_row(0, level=1, size=1, tags=["a"], when=None),
        make_row(2, level="two", size=2.5, tags="b", when=None),
        make_row(4, level=False, size=4, tags={"c": True}, when="now"),
    ]
    packaging = make_packaging("{{ level }} {{ size }} {{ tags }} {{ prompt }}", validation=0.0)
    result = package(write_shards(tmp_path, rows, size=1), tmp_path / "d", packaging, ORIGIN)
    asked = [row["prompt"].split(" What")[0] for row in read_split(result.folder / "data", "train")]
    assert asked == ['1 1.0 ["a"]', "two 2.5 b", 'false 4.0 {"c":true}']


def test_own_columns_must_agree(tmp_path: Path) -> None:
    """Scores that are text were not written by nexa: the column and both types are named."""
    shards = write_shards(tmp_path, [make_row(0), make_row(2, scores="high")], size=1)
    with pytest.raises(ManifestError, match=r"'scores': struct<clear: double> and string"):
        package(shards, tmp_path / "d", make_packaging(), ORIGIN)


def test_what_is_packaged_already_is_left_alone(tmp_path: Path) -> None:
    """The same rows packaged in the same way change nothing; another split makes a new dataset."""
    shards = write_shards(tmp_path, [make_row(n) for n in range(40)])
    first = package(shards, tmp_path / "d", make_packaging(), ORIGIN)
    again = package(shards, tmp_path / "d", make_packaging(), ORIGIN)
    assert first.fresh
    assert not again.fresh
    assert again.manifest == first.manifest
    assert package(shards, tmp_path / "d", make_packaging(validation=0.5), ORIGIN).fresh
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_failure_leaves_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while packaging, the dataset that stood there still stands, whole."""
    shards = write_shards(tmp_path, [make_row(n) for n in range(40)])
    first = package(shards, tmp_path / "d", make_packaging(), ORIGIN)

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(packaging_module, "write_card", fail)
    with pytest.raises(StoreError, match="disk full"):
        package(shards, tmp_path / "d", make_packaging(validation=0.5), ORIGIN)
    assert packaging_module.read_manifest(tmp_path / "d") == first.manifest
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_nothing_to_package_is_an_error(tmp_path: Path) -> None:
    """No shard and no accepted row are errors that say why, and leave no folder."""
    with pytest.raises(UsageError, match="no shard"):
        package([], tmp_path / "d", make_packaging(), ORIGIN)
    shards = write_shards(tmp_path, [make_row(n, "rejected", "runaway") for n in range(3)])
    with pytest.raises(UsageError, match="3 runaway"):
        package(shards, tmp_path / "d", make_packaging(), ORIGIN)
    assert not (tmp_path / "d").exists()


def test_wrong_columns_templates_and_shards_are_errors(tmp_path: Path) -> None:
    """A missing column, a template over an unknown one and a cut shard each say what is wrong."""
    shards = write_shards(tmp_path, [make_row(0)])
    with pytest.raises(UsageError, match="no column 'question'"):
        package(
            shards,
            tmp_path / "d",
            make_packaging(prompt="question"),
            ORIGIN,
        )
    chats = [{**make_row(1), "messages": "[]"}]
    del chats[0]["response"]
    (tmp_path / "chats").mkdir()
    with pytest.raises(UsageError, match="parted from its answer"):
        package(write_shards(tmp_path / "chats", chats), tmp_path / "d", make_packaging(), ORIGIN)
    with pytest.raises(UsageError, match="'topic' is undefined"):
        package(shards, tmp_path / "d", make_packaging("{{ topic }}: {{ prompt }}"), ORIGIN)
    shards[0].write_bytes(shards[0].read_bytes()[:-10])
    with pytest.raises(ManifestError, match="cannot be read"):
        package(shards, tmp_path / "d", make_packaging(), ORIGIN)


def test_the_card_says_what_a_reader_asks(tmp_path: Path) -> None:
    """Front matter for the hub, the yield by reason, the gate's evidence and every mark."""
    check = {
        "metric": "runaway_rate",
        "rule": "below",
        "threshold": 0.05,
        "k": 1,
        "n": 166,
        "value": 0.006,
        "lower": 0.0,
        "upper": 0.049,
        "verdict": "PASS",
    }
    part = make_part("r1", steps=[make_step("answer", "local/x", temperature=0.2)], checks=[check])
    origin = Origin(
        ("r1",), "demo", "abc", "PROCEED", "h1", ("rehearsal",), "nexa package r1", (part,)
    )
    rows = [make_row(n) for n in range(40)] + [make_row(90, "rejected", "runaway")]
    package(write_shards(tmp_path, rows), tmp_path / "d", make_packaging(), origin)
    card = (tmp_path / "d" / "README.md").read_text()
    for part in (
        "- synthetic",
        "n<1K",
        "rejected/rejected-*",
        "| `runaway` | −1 | 40 | 97.6% |",
        "1 of 166",
        "**Mark:** rehearsal",
        "| `answer` | generate | `local/x` |  | temperature 0.2 |",
        "2 rejected rows were tried again: of 39 answers 94.9 % passed in the end.",
    ):
        assert part in card


def test_the_card_of_rows_that_no_model_wrote_says_so(tmp_path: Path) -> None:
    """An audited dataset is not synthetic; of several runs each has its own gate and hash."""
    parts = (make_part("r1"), make_part("r2", decision=None))
    origin = Origin(("r1", "r2"), "demo", "abc", "PROCEED", parts=parts)
    package(
        write_shards(tmp_path, [make_row(n) for n in range(9)]),
        tmp_path / "d",
        make_packaging(),
        origin,
    )
    card = (tmp_path / "d" / "README.md").read_text()
    assert "synthetic" not in card and "written by a model" not in card
    assert (
        "Decision of `r1`: **PROCEED**" in card and "No gate decided about the rows of `r2`" in card
    )
    assert "Pipeline hash of `r2`: `hash-r2`" in card


@pytest.mark.slow
def test_datasets_opens_the_folder(tmp_path: Path) -> None:
    """`datasets.load_dataset(folder)` gives the splits and, by name, the rejected rows, offline."""
    pytest.importorskip("datasets")
    rows = [make_row(n) for n in range(60)] + [make_row(90, "rejected", "runaway")]
    package(write_shards(tmp_path, rows), tmp_path / "d", make_packaging(), ORIGIN)
    code = (
        "from datasets import load_dataset\n"
        "d, r = load_dataset('d'), load_dataset('d', 'rejected')\n"
        "print(sorted(d), sum(map(len, d.values())), sorted(r), r['rejected'][0]['reason'])"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "['train', 'validation'] 60 ['rejected'] runaway", done.stderr[
        -2000:
    ]


def test_the_split_does_not_follow_the_pilots_draw() -> None:
    """Of the rows that a pilot takes first, as many are held out as of all others."""
    rows = [SourceRow(f"s{n}", f"r{n}", {}) for n in range(4000)]
    first = sample_rows(rows, 0, 400)
    held = sum(place_source(0, row.source_id) < 0.1 for row in first)
    assert 20 <= held <= 65
