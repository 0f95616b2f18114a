"""`nexa diff` on one screen and as JSON."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

PROMPT = {"name": "demo/respond", "hash": "aa" * 32, "body": "Q: {{ q }}\nA:", "system": None}


@pytest.fixture
def second(run):
    """A copy of the finished run that was cooler, had another prompt, and accepted two rows more."""
    copy = run.path.with_name("demo-2")
    record = json.loads(run.record_path.read_text()) | {"prompts": {"respond": PROMPT}}
    run.record_path.write_text(json.dumps(record))
    shutil.copytree(run.path, copy)
    record["run"] = "demo-2"
    record["pipeline"]["budget"]["usd"] = 4.0
    record["pipeline"]["steps"].insert(1, {"check": [{"refusal": {"id": "refusal"}}]})
    body = "Q: {{ q }}\nSay \x1b[31m[bold]briefly.\nA:"
    record["prompts"]["respond"] = {**PROMPT, "hash": "bb" * 32, "body": body}
    (copy / "run.json").write_text(json.dumps(record))
    path = copy / "iterations" / "02" / "shards" / "00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in [row for row in rows if row["state"] == "rejected"][:2]:
        row["state"], row["scores"]["answers"] = "accepted", 0.9
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    assert pc.sum(pc.equal(pq.read_table(path)["state"], "accepted")).as_py() == 7
    return copy


def test_two_runs_on_one_screen(second, invoke, golden):
    """Figures, settings, the prompt's lines, reasons, and what the shared rows tell."""
    done = invoke("diff", "demo-1", "demo-2")
    assert done.code == 0 and done.err == ""
    assert "\x1b" not in done.out
    golden("diff.txt", done.out)


def test_two_runs_as_json(second, invoke):
    """Numbers are numbers, and everything on the screen is in it."""
    found = json.loads(invoke("diff", "demo-1", "demo-2", "--json").out)
    assert [each["path"] for each in found["configuration"]] == ["budget.usd", "steps", "refusal"]
    assert (found["paired"]["accepted"]["b"], found["paired"]["accepted"]["c"]) == (0, 2)


def test_a_run_that_is_not_there(run, invoke):
    """An unknown run is a usage error."""
    assert invoke("diff", "demo-1", "demo-9").code == 2
