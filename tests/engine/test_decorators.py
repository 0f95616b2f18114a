"""Functions of a row as checks and judges, in a workspace's own plugin file."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.actions.running import run_pipeline
from nexa_core.errors import CheckError, NexaError, PluginConflictError
from nexa_core.testing.chaos import Answer, Settings, serve_in_thread
from nexa_core.workspace import Workspace

MINE = '''
import nexa_core as nexa

@nexa.check
def short(row):
    """At most twenty characters."""
    return len(row["response"]) <= 20, f"{len(row['response'])} characters"

@nexa.check
def share(row):
    return None if row["response"] == "skip" else len(row["response"]) / 10

@nexa.check
def slips(row):
    return row["respnse"] == ""

@nexa.check
def word(row):
    return "yes"

@nexa.check
def turned(row):
    return "too long", False

@nexa.judge
def seven(row):
    return 7

@nexa.judge
def counted(row):
    return min(1.0, len(row["response"]) / 10)

@nexa.judge
async def asked(row, ask):
    reply = await ask.complete(f"Is this brief? {row['response']}")
    return 1.0 if reply.text.startswith("yes") else 0.0
'''
ROWS = ["four", "a longer answer", "skip", "an answer that is far too long to be kept"]


@pytest.fixture
def judge_rows(workspace: Workspace) -> Any:
    """Audit four answers with steps of one's own; rows by their answer."""

    def run(*steps: Any, models: Any = None, **more: Any) -> dict[str, dict[str, Any]]:
        workspace.plugins_path.mkdir(exist_ok=True)
        (workspace.plugins_path / "mine.py").write_text(MINE)
        rows = [{"id": str(n), "response": text} for n, text in enumerate(ROWS)]
        (workspace.root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        pipeline = {
            "nexa": 1,
            "name": "own",
            "source": {"path": "rows.jsonl", "id": "id"},
            "models": models or {},
            "steps": list(steps),
            "scale": {"rows": "all"},
            **more,
        }
        (workspace.root / "p.yaml").write_text(json.dumps(pipeline))
        run_pipeline(workspace.root / "p.yaml", workspace=workspace, run_id="own")
        table = pq.read_table(workspace.artifacts_path / "own/scale/shards/00000.parquet")
        return {row["response"]: row for row in table.to_pylist()}

    return run


def test_a_function_is_a_check(judge_rows: Any) -> None:
    """What it returns is the verdict, and the reason where it gives one."""
    rows = judge_rows({"check": ["short"]})
    assert [rows[text]["state"] for text in ROWS] == ["accepted"] * 3 + ["rejected"]
    assert rows[ROWS[3]]["reason"] == "short: 41 characters"


def test_a_number_passes_from_one_half(judge_rows: Any) -> None:
    """A share is kept as the score; None means that the check does not apply."""
    rows = judge_rows({"check": ["share"]})
    assert (rows["four"]["state"], rows["four"]["scores"]["share"]) == ("rejected", 0.4)
    assert (rows["skip"]["state"], rows["skip"]["scores"]["share"]) == ("accepted", None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("slips", r"'slips' failed on the row '\w+': KeyError: 'respnse'.* response.*mine.py:13"),
        ("word", r"'word' answered 'yes' for the row .* no verdict. Return True .*mine.py:17"),
        ("turned", r"'turned' answered \('too long', False\) .* no verdict"),
    ],
)
def test_a_function_that_gives_no_verdict_is_named_with_its_line(
    judge_rows: Any, name: str, told: str
) -> None:
    """Which row, what it said, what it may say, and where it stands."""
    with pytest.raises(CheckError) as caught:
        judge_rows({"check": [name]})
    assert re.search(told, str(caught.value), re.DOTALL)


def test_a_score_that_is_none_is_no_score(judge_rows: Any) -> None:
    """Seven would pass every threshold."""
    rows = judge_rows({"judge": {"id": "s", "method": "seven"}}, fail_over=1.0)
    assert {row["state"] for row in rows.values()} == {"failed"}
    assert rows["four"]["reason"] == "s: it scored 7, and a score is a number from 0 to 1"


def test_a_function_is_a_judge_without_a_model(judge_rows: Any) -> None:
    """It scores, and accept decides."""
    rows = judge_rows({"judge": {"id": "c", "method": "counted"}}, accept={"c": {"at_least": 0.5}})
    assert (rows["four"]["reason"], rows[ROWS[1]]["state"]) == ("c", "accepted")


def test_a_function_asks_a_model_through_the_engine(judge_rows: Any) -> None:
    """Its asks are calls of the run: journaled, identified, in provenance."""
    answers = (Answer(match="four", text="yes"), Answer(match="", text="no"))
    with serve_in_thread(Settings(answers=answers)) as server:
        role = {"model": "vllm/chaos", "base_url": server.url}
        rows = judge_rows(
            {"judge": {"id": "a", "method": "asked", "model": "m"}}, models={"m": role}
        )
    assert (rows["four"]["scores"]["a"], rows["skip"]["scores"]["a"]) == (1.0, 0.0)
    assert len(rows["four"]["provenance"]["steps"][0]["call_ids"]) == 1


def test_the_file_is_hashed_into_the_run(judge_rows: Any, workspace: Workspace) -> None:
    """run.json says which code judged."""
    judge_rows({"check": ["short"]})
    record = json.loads((workspace.artifacts_path / "own" / "run.json").read_text())
    mine = next(plugin for plugin in record["plugins"] if plugin["name"] == "mine")
    assert mine["distribution"] == "workspace" and len(mine["hash"]) == 64


TWICE = """
import nexa_core as nexa

@nexa.check
def tidy(row):
    return len(row["response"]) <= 20

@nexa.check
def tidy(row):
    return len(row["response"]) <= 40
"""


def test_two_checks_of_one_name_in_a_file_are_an_error_that_names_both(
    judge_rows: Any, workspace: Workspace
) -> None:
    """The later does not win in silence."""
    twice = workspace.plugins_path / "twice.py"
    twice.write_text(TWICE)
    with pytest.raises(NexaError) as refused:
        judge_rows({"check": ["tidy"]})
    assert f"offered as 'tidy': at {twice}:4 and at {twice}:8" in str(refused.value)


def test_two_checks_of_one_name_in_two_files_are_an_error_that_names_both(
    judge_rows: Any, workspace: Workspace
) -> None:
    """Neither wins, whichever file comes first."""
    (workspace.plugins_path / "twice.py").write_text(MINE.partition("@nexa.judge")[0])
    with pytest.raises(PluginConflictError, match=r"'short' is offered by mine .* and by twice "):
        judge_rows({"check": ["short"]})
