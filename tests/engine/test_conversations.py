"""Rows that bring a conversation: it is continued, with its tools, or refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa_core.conversations import (
    ConversationError,
    flatten_column,
    part_answer,
    read_messages,
)
from nexa_core.engine.items import Items, read_items, tell_conversation
from nexa_core.engine.mixing import MixSource
from nexa_core.engine.sources import read_rows
from nexa_core.errors import PipelineFileError, SourceError
from nexa_core.pipeline import pipeline_from
from nexa_core.records import Message

RECORDER = """
import json
from pathlib import Path
from nexa_core import hookimpl, ModelSpec
from nexa_core.testing.models import ScriptedModel

LOG = Path(__file__).parent.parent / "seen.jsonl"

def answer(request):
    turns = [[m.role, m.content, m.tool_calls, m.tool_call_id] for m in request.prompt]
    with LOG.open("a") as log:
        log.write(json.dumps([turns, request.tools]) + "\\n")
    return "It is 20 degrees."

@hookimpl
def register_models():
    return [ModelSpec("recorder", "notes what it is asked", build=lambda role: ScriptedModel(answer))]
"""
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"city": "string"}}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"zone": {"type": "x"}}}}
ASKED = {"role": "user", "content": "How warm is it?"}
ROW = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "20", "tool_call_id": "c1"},
    ],
    "tools": [WEATHER],
}


class Listed:
    """A source of rows that are there."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.found = rows

    def rows(self) -> Any:
        return iter(self.found)


@pytest.fixture
def continue_rows(workspace: Any, write_rows: Any, run: Any) -> Any:
    """Runs a pipeline whose one step has no prompt; gives rows and what the model was asked."""
    (workspace.root / "plugins" / "recorder.py").write_text(RECORDER)

    def start(*rows: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
        write_rows(rows)
        steps = [{"generate": {"id": "answer", "model": "m", "into": "response"}}]
        pipeline = {
            "nexa": 1,
            "name": "talk",
            "source": {"path": "rows.jsonl"},
            "models": {"m": {"model": "recorder/x"}},
            "steps": steps,
            "scale": {"rows": "all"},
        }
        done = run(pipeline, "r")
        shard = workspace.artifacts_path / "r" / "scale" / "shards" / "00000.parquet"
        assert done.status == "done"
        seen = (workspace.root / "seen.jsonl").read_text().splitlines()
        return pq.read_table(shard).to_pylist(), [json.loads(line) for line in seen]

    return start


def test_a_conversation_is_continued_with_its_tool_calls_and_tools(continue_rows: Any) -> None:
    """What the row brings reaches the model turn by turn, and its tools with it."""
    (row,), ((turns, tools),) = continue_rows(ROW)
    assert [turn[0] for turn in turns] == ["system", "user", "assistant", "tool"]
    assert turns[2] == ["assistant", "", [CALL], None] and turns[3][3] == "c1"
    assert tools == [WEATHER]
    assert row["state"] == "accepted" and row["response"] == "It is 20 degrees."


def test_tools_of_one_row_do_not_leak_into_another(continue_rows: Any) -> None:
    """Rows with tools of different shapes keep exactly their own."""
    _, seen = continue_rows(ROW, {"messages": [ASKED], "tools": [CLOCK]}, {"messages": [ASKED]})
    assert sorted(json.dumps(tools) for _, tools in seen) == sorted(
        json.dumps(tools) for tools in ([WEATHER], [CLOCK], None)
    )


def test_a_conversation_that_ends_with_an_answer_fails_alone(continue_rows: Any) -> None:
    """There is nothing to continue; its siblings go on."""
    over = {"messages": [ASKED, {"role": "assistant", "content": "20"}]}
    rows, seen = continue_rows({"messages": [ASKED]}, over)
    assert [row["state"] for row in rows] == ["accepted", "failed"] and len(seen) == 1
    assert "ends with an answer" in rows[1]["reason"]


def test_images_are_refused_before_the_run(continue_rows: Any) -> None:
    """A source of nothing but image parts is an error at the step, not a thousand failed rows."""
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    with pytest.raises(PipelineFileError, match="part of kind 'image_url': only text can be sent"):
        continue_rows({"messages": [picture]})


def test_text_parts_are_one_text() -> None:
    """Content as a list of text parts is what its parts say."""
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert read_messages([{"role": "user", "content": parts}]) == (Message("user", "a b"),)


@pytest.mark.parametrize("value", [None, [], "no JSON", [{"role": "cook", "content": "x"}], [3]])
def test_what_is_no_conversation_is_said_so(value: Any) -> None:
    """Every other shape is an error with a reason, never a request."""
    with pytest.raises(ConversationError):
        read_messages(value)


def test_arguments_given_as_objects_survive_as_json() -> None:
    """Tool calls of different shapes are kept as JSON text, not merged into one struct."""
    turn = {"role": "assistant", "tool_calls": [{"function": {"arguments": {"a": 1}}}]}
    (kept,) = flatten_column("messages", [[turn]])
    assert json.loads(kept[0]["tool_calls"]) == turn["tool_calls"]


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Oslo, is it north?"},
    {"role": "assistant", "content": "Yes."},
]
"""The turns before the question of every row of the data set below."""


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_an_evaluation_asks_the_whole_conversation(
    workspace: Any, write_rows: Any, run: Any, form: str
) -> None:
    """Rows held out of a set of conversations are asked with every turn before the question."""
    (workspace.root / "plugins" / "recorder.py").write_text(RECORDER)
    questions = [f"How warm is day {n}?" for n in range(40)]
    write_rows([{"messages": [*CHAT, {"role": "user", "content": each}]} for each in questions])
    done = run(
        {
            "nexa": 1,
            "name": "talk",
            "source": {"path": "rows.jsonl"},
            "models": {"m": {"model": "recorder/x"}},
            "steps": [{"generate": {"id": "answer", "model": "m", "into": "response"}}],
            "scale": {"rows": "all"},
            "package": {"format": form, "validation": 0.4},
            "evaluate": {"holdout": 4, "scorer": "contains", "arms": ["base"]},
        },
        "r",
    )
    assert done.status == "done" and done.as_json()["evaluation"]["base"] == 1.0
    seen = (workspace.root / "seen.jsonl").read_text().splitlines()[40:]
    asked = [[turn[:2] for turn in json.loads(line)[0]] for line in seen]
    before = [[turn["role"], turn["content"]] for turn in CHAT]
    assert len(asked) == 4 and all(turns[:3] == before for turns in asked)
    assert {turns[3][1] for turns in asked} <= set(questions)
    told = pq.read_table(workspace.artifacts_path / "r/evaluation/predictions-base.parquet")
    assert set(told["instruction"].to_pylist()) <= set(questions)


def test_items_that_differ_before_their_question_are_different_items() -> None:
    """The hash of items holds the turns before a question; a question alone has the hash it had."""
    asked = {"role": "user", "content": "Why?"}
    answer = {"role": "assistant", "content": "So."}

    def read(*turns: Any) -> Items:
        rows = [{"id": "a", "messages": [*turns, asked, answer]}]
        return read_items("x", Listed(rows))

    plain = read_items("x", Listed([{"id": "a", "instruction": "Why?", "answer": "So."}]))
    assert read().hash == plain.hash and read().rows[0]["answer"] == "So."
    assert len({read().hash, read(*CHAT).hash, read(CHAT[0]).hash}) == 3
    assert tell_conversation(read(*CHAT[1:]).rows[0]).endswith("Assistant: Yes.\n\nUser: Why?")


ANSWER = {"role": "assistant", "content": "20 degrees."}
AUDIT = {
    "nexa": 1,
    "name": "chats",
    "source": {"path": "rows.jsonl"},
    "steps": [{"check": ["empty"]}],
    "pilot": {"rows": "all", "max_iterations": 1},
}


@pytest.mark.parametrize(
    ("row", "asked", "more"),
    [
        ({"messages": [ASKED, ANSWER], "n": 1}, [ASKED], {"n": 1}),
        ({"messages": json.dumps([ASKED, ANSWER])}, [ASKED], {}),
        (
            {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "20 degrees."}]},
            [{"role": "user", "content": "?"}],
            {},
        ),
        (
            {"messages": [ASKED, {**ANSWER, "reasoning_content": "Hm.", "tool_calls": [CALL]}]},
            [ASKED],
            {
                "response_reasoning": "Hm.",
                "response_tool_calls": json.dumps([CALL], separators=(",", ":")),
            },
        ),
    ],
)  # fmt: skip
def test_a_conversation_is_parted_from_its_answer(
    row: dict[str, Any], asked: list[Any], more: dict[str, Any]
) -> None:
    """In every common form: the turns before, the answer's text, what it thought and called."""
    assert part_answer(row) == {"messages": asked, "response": "20 degrees.", **more}


@pytest.mark.parametrize(
    "turns",
    [
        [ASKED],
        [ANSWER],
        [],
        "no JSON",
        7,
        ["turn"],
        [ASKED, {"role": "assistant", "content": [{"type": "image_url"}]}],
    ],
)
def test_what_ends_with_no_answer_stays_as_it_is(turns: Any) -> None:
    """Its checks find no text, and nothing of the row is lost."""
    assert part_answer({"messages": turns}) == {"messages": turns}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, ANSWER]},
        {"conversations": [{"from": "human", "value": "How warm is it?"}, {"from": "gpt", "value": "20 degrees."}]},
        {"prompt": [ASKED], "completion": [ANSWER]},
        {"prompt": [ASKED], "completion": "20 degrees."},
        {"prompt": "How warm is it?", "completion": "20 degrees."},
    ],
)  # fmt: skip
def test_other_data_is_parted_in_the_same_way(row: dict[str, Any]) -> None:
    """What is mixed in comes as a question and its answer, whichever form it had."""
    (found,) = MixSource("others.jsonl", "MIT", 0.1, Listed([row])).draw(seed=0, count=1)
    assert (found["prompt"], found["completion"]) == ("How warm is it?", "20 degrees.")


@pytest.mark.parametrize(
    "row",
    [{"messages": [ASKED]}, {"prompt": "", "completion": "x"}, {"prompt": 7, "completion": []}],
)
def test_other_data_without_an_answer_is_refused(row: dict[str, Any]) -> None:
    """A row that is no question with its answer ends the packaging, with its number."""
    with pytest.raises(SourceError, match=r"Row 1 of 'others\.jsonl' cannot be mixed in"):
        MixSource("others.jsonl", "MIT", 0.1, Listed([row])).draw(seed=0, count=1)


def test_conversations_are_parted_only_where_nothing_else_answers() -> None:
    """A column of answers, or a step that makes them, leaves `messages` whole."""
    rows = [{"messages": [ASKED, ANSWER]}]
    answered = [{**rows[0], "output": "Mine."}]
    generate = {"generate": {"model": "m", "prompt": {"user": "{{ messages }}"}}}
    models = {"m": {"model": "recorder/x"}}
    generating = {**AUDIT, "models": models, "steps": [generate], "scale": {"rows": "all"}}

    def read(rows: list[dict[str, Any]], pipeline: dict[str, Any]) -> list[Any]:
        return [row.columns for row in read_rows(Listed(rows), pipeline_from(pipeline))]

    assert read(rows, AUDIT) == [{"messages": [ASKED], "response": "20 degrees."}]
    assert read(answered, AUDIT) == answered and read(rows, generating) == rows


def test_a_dataset_of_conversations_is_audited_and_packaged(
    workspace: Any, write_rows: Any, run: Any
) -> None:
    """The check reads the last answer; what is packaged are the conversations as they came."""
    chats = [
        [{"role": "user", "content": f"How warm is it in {n}?"}, {**ANSWER, "content": f"{n}, I think."}]
        for n in range(12)
    ]  # fmt: skip
    unanswered = [*chats[0][:1], {"role": "assistant", "content": "\n"}]
    write_rows(["no JSON", *({"messages": turns} for turns in [*chats, unanswered, [ASKED]])])
    outcome = run(
        {**AUDIT, "fail_over": 0.5, "package": {"format": "messages", "validation": 0}}, "chats"
    )
    assert outcome.status == "done"
    folder = workspace.artifacts_path / "chats"
    written = (folder / "dataset/train.jsonl").read_text().splitlines()
    lines = [json.loads(line)["messages"] for line in written]
    assert sorted(map(str, lines)) == sorted(map(str, chats))
    rejected = pq.read_table(folder / "iterations/01/shards/00000.parquet").to_pylist()
    reasons = [row["reason"] for row in rejected if row["state"] == "rejected"]
    assert reasons == ["empty: no text"] * 2
