"""Checks within a run: over all shards, against earlier runs and evaluation items, in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.engine.batch import Batch
from nexa_core.engine.steps.check import CheckRows, NamedCheck
from nexa_core.errors import NexaError, PreflightError, SourceError
from nexa_core.records import ScoreColumns
from nexa_core.workspace import Workspace

TEXT = "The number {} sample was heated slowly to a temperature that nobody had planned for it."


@pytest.fixture
def audit(run: Any, write_rows: Callable[..., str]) -> Callable[..., Any]:
    """Audits the given responses in shards of 5 rows; options are those of the pipeline."""

    def start(responses: list[str], checks: list[Any], run_id: str = "audit", **more: Any) -> Any:
        rows = [
            {"id": f"r{n}", "instruction": f"q{n}", "response": r} for n, r in enumerate(responses)
        ]
        path = write_rows(rows, f"{run_id}.jsonl")
        pipeline = {
            "nexa": 1,
            "name": "audit",
            "source": {"path": path},
            "steps": [{"check": checks}],
        }
        pilot = {"rows": "all", "max_iterations": 1, "shard_rows": 5}
        return run({**pipeline, "pilot": pilot, **more}, run_id, ("pilot",))

    return start


def read_rows(workspace: Workspace, run_id: str) -> pa.Table:
    shards = sorted((workspace.artifacts_path / run_id).glob("**/shards/[0-9]*[0-9].parquet"))
    return pa.concat_tables(pq.read_table(p) for p in shards if ".calls" not in p.name)


def test_duplicates_are_found_over_every_shard(audit: Any, workspace: Workspace) -> None:
    """The rate over the whole dataset, with the reason, though a duplicate is shards away."""
    texts = [TEXT.format(n % 12) for n in range(24)]
    gate = {"gate": "dup", "hard": [{"metric": "duplicate_rate", "below": 0.05}]}
    outcome = audit(texts, ["exact_duplicates"], gate=gate)
    check = outcome.iterations[0].judged.checks[0]
    assert (check.metric, check.value) == ("duplicate_rate", 0.5)
    reasons = read_rows(workspace, "audit")["reason"].to_pylist()
    assert reasons[12:] == ["exact_duplicates: same as an earlier row"] * 12


def test_a_run_is_compared_with_an_earlier_one(audit: Any, workspace: Workspace) -> None:
    """`against` takes the id of a run, or a file; what neither is, is an error before any row."""
    audit([TEXT.format(n) for n in range(8)], ["empty"], "first")
    for name, check in (("near", "near_duplicates"), ("exact", "exact_duplicates")):
        against = ["first"] if name == "near" else ["first.jsonl"]
        audit([TEXT.format(n) for n in range(4, 12)], [{check: {"against": against}}], name)
        states = read_rows(workspace, name)["state"].to_pylist()
        assert states[:4] == ["rejected"] * 4 and (name == "near" or states[4:] == ["accepted"] * 4)
    with pytest.raises(
        SourceError,
        match=r"'frist' is no run, no set, and no file .*newest are: exact, near, first",
    ):
        audit(["x"], [{"exact_duplicates": {"against": ["frist"]}}], "third")


def test_the_pipelines_own_items_are_always_looked_for(
    audit: Any, workspace: Workspace, write_rows: Any
) -> None:
    """`evaluate.items` reach the check without being named there."""
    item = "How many of the 14 apples are left when Jane has eaten 3 of them and sold 4 of them?"
    write_rows([{"id": "i1", "instruction": item, "answer": "7"}], "items.jsonl")
    rows = [TEXT.format(1), f"So: {item.replace('14', '99')}", TEXT.format(2)]
    evaluate = {"items": "items.jsonl", "scorer": "contains", "arms": ["base"]}
    train = {"method": "qlora", "model": "local/nexa-tiny"}
    audit(rows, ["decontamination"], evaluate=evaluate, train=train, package={})
    states = read_rows(workspace, "audit")["state"].to_pylist()
    assert states == ["accepted", "rejected", "accepted"]


def test_most_samples_decide_over_a_whole_shard(
    run: Any, answering: Any, write_rows: Any, workspace: Workspace
) -> None:
    """Samples of a row stand together in one shard, so that every one of them is counted."""
    write_rows([{"id": f"q{n}", "question": f"What is {n} and {n % 3}?"} for n in range(10)])
    pipeline = answering(pilot={"rows": 10, "max_iterations": 1, "shard_rows": 4}, accept=None)
    pipeline["steps"][0]["generate"]["samples"] = 3
    pipeline["steps"] = [pipeline["steps"][0], {"check": [{"majority": {"take": "text"}}]}]
    run(pipeline, "votes")
    rows = read_rows(workspace, "votes")
    assert len(rows) == 30
    shares = [score["majority"] for score in rows["scores"].to_pylist()]
    assert {round(share * 3) for share in shares} <= {1, 2, 3} and None not in shares


async def test_a_check_that_waits_is_asked_in_a_thread() -> None:
    """Calls of other rows go on while a verifier runs."""

    class Slow:
        def score(self, table: pa.Table) -> ScoreColumns:
            seen.append(threading.current_thread() is threading.main_thread())
            return ScoreColumns(pa.array([1.0]), pa.array([False]))

    seen: list[bool] = []
    batch = Batch.start(pa.table({"id": ["a"], "source_id": ["a"]}))

    async def stream() -> Any:
        yield batch

    for waits in (True, False):
        async for _ in CheckRows("c", [NamedCheck("slow", Slow(), waits=waits)]).run(stream()):
            pass
    assert seen == [False, True]


async def test_a_check_may_answer_in_whole_numbers_and_nulls() -> None:
    """Scores of integers, verdicts of 0 and 1 or of nothing at all, are taken for what they mean."""

    class Plain:
        def __init__(self, failed: list[int | None]) -> None:
            self.failed = failed

        def score(self, table: pa.Table) -> ScoreColumns:
            return ScoreColumns(pa.array([3, 4]), pa.array(self.failed))

    async def stream() -> Any:
        yield Batch.start(pa.table({"id": ["a", "b"], "source_id": ["a", "b"]}))

    for failed, states in (([None, None], [None, None]), ([1, 0], ["rejected", None])):
        async for batch in CheckRows("c", [NamedCheck("plain", Plain(failed))]).run(stream()):
            assert batch.state.to_pylist() == states
            assert batch.scores["plain"].to_pylist() == [3.0, 4.0]


def test_a_wrong_option_is_found_before_the_first_call(
    run: Any, answering: Any, write_rows: Any, workspace: Workspace
) -> None:
    """Row checks are built in preflight, so that a mistake costs nothing."""
    write_rows([{"id": "q", "question": "?"}])
    pipeline = answering()
    pipeline["steps"].append({"check": [{"length": {"min_chras": 3}}]})
    with pytest.raises(NexaError, match="min_chras"):
        run(pipeline, "typo")
    assert not (workspace.root / "asked.log").exists()
    assert not (workspace.artifacts_path / "typo").exists()


@pytest.mark.parametrize(
    ("checks", "option"),
    [
        ([{"length": {"field": "respnse", "min_chars": 3}}], "`field`"),
        ([{"exact_duplicates": {"columns": ["response", "answr"]}}], "`columns`"),
        ([{"answer_equals": {"column": "right"}}], "`column`"),
        (
            [{"command": {"command": ["true"], "run_untrusted": True, "files": {"a.py": "code"}}}],
            "`files`",
        ),
    ],
)
def test_a_column_that_no_row_has_is_found_before_the_run(
    audit: Any, workspace: Workspace, checks: list[Any], option: str
) -> None:
    """A slip of the pen in an option costs no call, and leaves no run behind."""
    with pytest.raises(PreflightError, match=f"reads the column .* \\({option}\\)"):
        audit([TEXT], checks)
    assert not (workspace.artifacts_path / "audit").exists()


def test_columns_of_metrics_are_found_before_the_run(audit: Any) -> None:
    """A gate reads at the end, when everything is paid for."""
    rule = {"metric": {"refusal_rate": {"field": "respnse"}}, "below": 0.5}
    with pytest.raises(PreflightError, match="'refusal_rate' reads the column 'respnse'"):
        audit([TEXT], ["empty"], gate={"gate": "g", "hard": [rule]})


def test_a_renamed_column_is_read_by_its_new_name(
    run: Any, write_rows: Callable[..., str], workspace: Workspace
) -> None:
    """`source.map` names the answer's column: facts, checks and options know it, the old name is gone."""
    path = write_rows([{"id": "a", "instruction": "q", "said": "no"}], "renamed.jsonl")
    pipeline = {
        "nexa": 1,
        "name": "renamed",
        "source": {"path": path, "id": "id", "map": {"response": "said"}},
        "steps": [{"check": ["empty", {"length": {"field": "response", "min_chars": 9}}]}],
        "pilot": {"rows": "all", "max_iterations": 1},
    }
    run(pipeline, "renamed", ("pilot",))
    (row,) = read_rows(workspace, "renamed").to_pylist()
    assert row["reason"].startswith("length: 2 of") and "said" not in row
    with pytest.raises(PreflightError, match="Columns there are by then: instruction, response"):
        run({**pipeline, "steps": [{"check": [{"empty": {"field": "said"}}]}]}, "old", ("pilot",))


def test_the_answer_that_a_pairwise_judge_compares_with_must_be_there(
    run: Any, answering: Any, write_rows: Callable[..., str]
) -> None:
    """Every answer would win against one that is missing."""
    write_rows([{"id": "a", "question": "q"}])
    pipeline = answering()
    judge = {"method": "pairwise", "model": "m", "rubric": "judge/pairwise"}
    pipeline["steps"].append({"judge": {**judge, "options": {"against": "referense"}}})
    with pytest.raises(PreflightError, match="The judge 'judge' reads the column 'referense'"):
        run(pipeline, "pairs", ("pilot",))
