"""Records of a real run, edited bit by bit: everything is found, wherever it was done."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa_core.actions import reviewing, running
from nexa_core.actions.signing import sign
from nexa_core.reviews import read_reviews, verify_chain, write_review
from nexa_core.workspace import Workspace

TEMPERATURE = "answer.sampling.temperature"


@pytest.fixture
def records(
    begin: Any, run: Any, write_rows: Any, strict_gate: str, answering: Any, workspace: Workspace
) -> Path:
    """The reviews of a packaged run: a failure, a signature, a pass, a signature, and what came after."""

    def make() -> None:
        write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(600)])
        pipeline = answering(
            gate={"extends": strict_gate, "reviewers": ["human", "cooler"]},
            pilot={"rows": 60, "max_iterations": 3},
            search_space={TEMPERATURE: {"min": 0.1, "max": 1.0}},
            scale={"accepted": 70, "shard_rows": 60},
            package={"format": "prompt-completion", "validation": 0.05},
        )
        run(pipeline, "r")
        sign("r", "ITERATE", "as proposed", workspace=workspace, signer="Ada")
        running.resume_run("r", workspace=workspace)
        sign("r", "PROCEED", "enough", workspace=workspace, signer="Ada")
        assert running.resume_run("r", workspace=workspace).exit_code == 0

    begin("packaged", make)
    return workspace.reviews_path / "r"


def problems(workspace: Workspace) -> list[str]:
    return reviewing.gate_verify("r", workspace=workspace)["problems"]


def flip(path: Path, position: int, bit: int) -> Iterator[None]:
    """A file with one bit turned, until it is taken up again."""
    whole = path.read_bytes()
    edited = bytearray(whole)
    edited[position] ^= 1 << bit
    path.write_bytes(edited)
    yield
    path.write_bytes(whole)


def count_missed(folder: Path, places: list[tuple[Path, int, int]]) -> int:
    missed = 0
    for place in places:
        for _ in flip(*place):
            missed += not verify_chain(folder)
    return missed


def test_a_flipped_bit_anywhere_is_found(records: Path, workspace: Workspace) -> None:
    """JSON and Markdown alike, of decisions and of signatures."""
    assert problems(workspace) == []
    chance = random.Random(0)
    files = sorted(records.iterdir())
    places = [
        (path, chance.randrange(path.stat().st_size), chance.randrange(8))
        for path in files
        for _ in range(3)
    ]
    assert count_missed(records, places) == 0


def test_a_cut_tail_is_known_to_the_events_and_to_the_dataset(
    records: Path, workspace: Workspace
) -> None:
    """Either of the two is enough: whoever cuts must edit both."""
    last = read_reviews(records)[-1]
    for path in records.glob(f"{last.number:04d}-*"):
        path.unlink()
    told = problems(workspace)
    assert [each.partition(" ")[0] for each in told] == ["events.jsonl", "dataset/manifest.json"]
    events = workspace.artifacts_path / "r" / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(line for line in lines if last.hash not in line))
    assert [each.partition(" ")[0] for each in problems(workspace)] == ["dataset/manifest.json"]


def test_a_record_that_no_event_tells_of_is_found(records: Path, workspace: Workspace) -> None:
    """Somebody adds a decision, soundly chained: the events know nothing of it."""
    write_review(records, replace(read_reviews(records)[0], decision="PROCEED"))
    assert any("knows nothing of the records after" in told for told in problems(workspace))


def test_a_rewritten_chain_is_found_by_its_heads(records: Path, workspace: Workspace) -> None:
    """All records written anew with a milder gate, each hash sound: the heads kept elsewhere differ."""
    kept = [replace(review, reason="all is well") for review in read_reviews(records)]
    for path in records.iterdir():
        path.unlink()
    for review in kept:
        write_review(records, replace(review, signature=None))
    assert verify_chain(records) == ()
    assert len(problems(workspace)) == 2


def test_replay_computes_every_decision_again(records: Path, workspace: Workspace) -> None:
    """Signed ones too, and what came after the pilot."""
    found = reviewing.gate_replay("r", workspace=workspace)
    assert found["records"] == len(read_reviews(records)) > 4 and found["differences"] == []


def test_a_decision_whose_event_a_kill_swallowed_is_told_on_resume(
    records: Path, workspace: Workspace
) -> None:
    """The record stands, and the log gets its head."""
    path = workspace.artifacts_path / "r" / "events.jsonl"
    signed = read_reviews(records)[3]
    lines = [line for line in path.read_text().splitlines(keepends=True) if signed.hash not in line]
    path.write_text("".join(lines))
    running.resume_run("r", workspace=workspace)
    decided = [json.loads(line) for line in path.read_text().splitlines() if signed.hash in line]
    assert [event["signer"] for event in decided] == ["Ada"]
