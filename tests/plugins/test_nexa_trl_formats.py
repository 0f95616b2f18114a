"""The training formats: what each writes, what it cannot, and that `datasets` opens all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.engine.packaging import Origin, Packaging, package
from nexa_trl.exporters import Alpaca, Messages, Preference, PromptCompletion, ShareGPT
from nexa_trl.options import ChatOptions, PreferenceOptions

ORIGIN = Origin(runs=("r1",), name="demo")
CALL = [{"id": "c1", "function": {"name": "weigh", "arguments": {"what": "lead"}}}]
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "<think>Greet.</think>Hello"},
    {"role": "user", "content": "And lead?"},
]


def export(exporter: Any, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    return exporter.columns(pa.Table.from_pylist(list(rows))).to_pylist()


def make_row(number: int, answer: str, score: float | None, state: str = "accepted") -> dict:
    return {
        "instruction": f"What is fact {number}?",
        "response": answer,
        "id": f"row-{number}-{answer}",
        "source_id": f"source-{number}",
        "scores": {"factual": score, "style": score},
        "state": state,
        "reason": None if state == "accepted" else "min_score",
    }


def write(folder: Path, exporter: Any, rows: list[dict], **settings: Any) -> tuple[list, dict]:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    packaging = Packaging(
        exporter,
        type(exporter).__name__,
        "instruction",
        "response",
        exporter.template,
        validation=0.0,
        rank=("factual", "style"),
        **settings,
    )
    made = package([folder / "rows.parquet"], folder / "d", packaging, ORIGIN)
    (path,) = (folder / "d" / "data").glob("train-*")
    return pq.read_table(path).to_pylist(), dict(made.manifest)


def test_a_conversation_goes_on_with_its_system_turn() -> None:
    """A multi-turn source is continued, its system turn kept, earlier thoughts dropped."""
    (row,) = export(Messages(), {"prompt": ASKED, "completion": "Heavy."})
    assert row["reason"] is None
    assert [turn["content"] for turn in row["messages"]] == [
        "Be brief.",
        "Hi",
        "Hello",
        "And lead?",
        "Heavy.",
    ]


@pytest.mark.parametrize(
    ("reasoning", "last"),
    [
        ("drop", {"role": "assistant", "content": "Heavy."}),
        ("keep", {"role": "assistant", "content": "Heavy.", "reasoning_content": "Z = 82."}),
        ("inline", {"role": "assistant", "content": "<think>\nZ = 82.\n</think>\n\nHeavy."}),
    ],
)
def test_reasoning_is_dropped_or_kept(reasoning: str, last: dict[str, str]) -> None:
    """What a model thought is left out, kept in a field, or put into the text."""
    row = {"prompt": "Lead?", "completion": "Heavy.", "reasoning": "Z = 82."}
    (made,) = export(Messages(ChatOptions(reasoning=reasoning)), row)
    assert made["messages"][-1] == last
    inline = {"prompt": "Lead?", "completion": "<think>Z = 82.</think>\nHeavy."}
    assert export(Messages(ChatOptions(reasoning=reasoning)), inline)[0]["messages"][-1] == last


def test_tools_are_carried() -> None:
    """Tools on offer, calls and results stay, arguments as JSON text; `tools: false` drops the row."""
    turns = [*ASKED, {"role": "assistant", "content": None, "tool_calls": CALL}]
    turns.append({"role": "tool", "content": "11.3 kg", "tool_call_id": "c1"})
    row = {"prompt": turns, "completion": "11.3 kg", "tools": [{"function": {"name": "weigh"}}]}
    (made,) = export(Messages(), row)
    assert json.loads(made["tools"]) == [{"function": {"name": "weigh"}}]
    assert made["messages"][4]["tool_calls"][0]["function"] == {
        "name": "weigh",
        "arguments": '{"what": "lead"}',
    }
    assert made["messages"][5]["tool_call_id"] == "c1"
    assert export(Messages(ChatOptions(tools=False)), row)[0]["reason"] == "uses_tools"
    (shared,) = export(ShareGPT(), row)
    assert [part["from"] for part in shared["conversations"]][-3:] == [
        "function_call",
        "observation",
        "gpt",
    ]


def test_an_answer_may_be_a_tool_call() -> None:
    """A row whose answer only calls a tool is trained on, and is no row of text formats."""
    row = {"prompt": "Weigh lead.", "completion": None, "tool_calls": json.dumps(CALL)}
    assert export(Messages(), row)[0]["messages"][-1]["tool_calls"][0]["id"] == "c1"
    assert export(Alpaca(), row)[0]["reason"] == "uses_tools"


def test_what_a_form_cannot_say_has_a_reason() -> None:
    """Many turns, system turns, images and foreign roles are refused by name, never cut."""
    user = {"role": "user", "content": "Hi"}
    cases = {
        "has_system": ASKED[:2],
        "many_turns": ASKED[1:],
        "no_question": ASKED[:3],
        "unknown_role": [{"role": "narrator", "content": "Night."}],
        "not_text": [{"role": "user", "content": [{"type": "image", "url": "x"}]}],
    }
    for reason, turns in cases.items():
        for exporter in (Alpaca(), PromptCompletion()):
            (row,) = export(exporter, {"prompt": turns, "completion": "Yes."})
            assert row["reason"] == reason
    (row,) = export(Alpaca(), {"prompt": [user], "completion": "Yes."})
    assert (row["instruction"], row["input"], row["output"]) == ("Hi", "", "Yes.")


def test_pairs_are_the_best_and_the_worst_candidate(tmp_path: Path) -> None:
    """Chosen is the best accepted answer, rejected the worst of the judged, by a margin at least."""
    rows = [
        make_row(0, "good", 0.9),
        make_row(0, "better", 0.95),
        make_row(0, "bad", 0.2, "rejected"),
        make_row(0, "never judged", None, "rejected"),
        make_row(1, "good", 0.9),
        make_row(1, "nearly", 0.85, "rejected"),
        make_row(2, "alone", 0.9),
    ]
    made, manifest = write(tmp_path, Preference(PreferenceOptions(style="text")), rows)
    (row,) = made
    assert (row["prompt"], row["chosen"], row["rejected"]) == (
        "What is fact 0?\n",
        "better",
        "bad",
    )
    assert (row["score_chosen"], row["score_rejected"]) == (0.95, 0.2)
    assert row["rejected_id"] == "row-0-bad"
    dropped = {"not_best": 1, "margin": 1, "no_other_candidate": 1}
    assert dropped.items() <= manifest["reasons"].items()
    assert manifest["rows"]["dropped_unchosen"] == 3
    assert manifest["rows"]["dropped_incomplete"] == 0


def test_best_of_k_keeps_one_answer(tmp_path: Path) -> None:
    """With `best`, a question keeps its best accepted answer; the others are counted."""
    rows = [make_row(0, "good", 0.9), make_row(0, "better", 0.95), make_row(1, "only", 0.8)]
    made, manifest = write(tmp_path, Messages(), rows, best=True)
    assert [row["messages"][-1]["content"] for row in made] == ["better", "only"]
    assert manifest["reasons"] == {"not_best": 1}


@pytest.mark.slow
def test_datasets_opens_every_format(tmp_path: Path) -> None:
    """`datasets.load_dataset` reads each format's folder, offline."""
    pytest.importorskip("datasets")
    rows = [make_row(n, a, s) for n in range(4) for a, s in (("x", 0.9), ("y", 0.5))]
    formats = [Messages(), Alpaca(), ShareGPT(), Preference(), PromptCompletion()]
    for number, exporter in enumerate(formats):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), exporter, rows)
    code = (
        "from datasets import load_dataset\n"
        "for n in range(5):\n"
        "    d = load_dataset(f'{n}/d', split='train'); print(d.num_rows, d.column_names[0])"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:5] == [
        "8 messages",
        "8 instruction",
        "8 conversations",
        "4 prompt",
        "8 prompt",
    ], done.stderr[-2000:]
