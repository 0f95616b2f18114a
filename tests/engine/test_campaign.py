"""Campaigns as a whole: pilot, gate, other parameters, scale; resumed, changed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.actions import reviewing, running
from nexa_core.actions.reaccepting import reaccept
from nexa_core.errors import (
    RunLockedError,
    SourceError,
    StepError,
    TooManyFailuresError,
    UnknownNameError,
    UsageError,
)
from nexa_core.store.lock import RunLock
from nexa_core.store.manifest import read_manifest
from nexa_core.workspace import Workspace


def questions(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "question": f"What is {n}?"} for n in range(count)]


def hashes(workspace: Workspace, run_id: str) -> dict[str, str]:
    """The content hash of every committed shard, by unit."""
    folder = workspace.artifacts_path / run_id
    units = [*sorted(folder.glob("iterations/*")), folder / "scale"]
    return {entry.unit: entry.content_hash for unit in units for entry in read_manifest(unit)}


def asked(workspace: Workspace) -> list[str]:
    """The ids of all completions that the model was asked, in order."""
    log = workspace.root / "asked.log"
    return log.read_text().split() if log.exists() else []


@pytest.fixture
def gated(write_rows: Callable[..., str], strict_gate: str, answering: Any) -> dict[str, Any]:
    """A campaign that fails hot, passes cool, and scales to exactly 150 rows."""
    write_rows(questions(900))
    return answering(
        gate=strict_gate,
        pilot={"rows": "auto", "max_iterations": 3},
        search_space={"answer.sampling.temperature": {"min": 0.1, "max": 1.0}},
        scale={"accepted": 150, "shard_rows": 60},
    )


@pytest.fixture
def whole(begin: Any, run: Any, gated: dict[str, Any]) -> Any:
    """The outcome of that campaign, whose run `whole` lies in the workspace."""
    return begin("whole", lambda: run(gated, "whole"))


def test_a_hot_pilot_iterates_and_a_cool_one_proceeds(whole: Any) -> None:
    """The gate's decisions follow what was measured, and the reviewer's patch is what changes."""
    outcome = whole
    decisions = [str(i.judged.decision) for i in outcome.iterations]
    assert decisions[-1] == "PROCEED" and "ITERATE" in decisions and outcome.exit_code == 0
    assert outcome.iterations[0].judged.changes == {"answer.sampling.temperature": [1.0, 0.2]}


def test_scale_ends_with_exactly_the_wanted_rows(whole: Any) -> None:
    """Accepted rows of the passing pilot count, and what comes after the last is surplus."""
    assert whole.as_json()["rows"]["accepted"] == 150


def test_a_pilot_that_accepts_more_than_is_wanted_gives_no_more(
    run: Any, gated: dict[str, Any], workspace: Workspace
) -> None:
    """The first rows in order are the dataset; the rest is surplus, and nothing more is asked."""
    gated |= {"scale": {"accepted": 7}, "package": {"format": "prompt-completion"}}
    told = run(gated, "few").as_json()
    assert told["rows"]["accepted"] == 7 and told["rows"]["surplus"] > 0
    folder = workspace.artifacts_path / "few"
    manifest = json.loads((folder / "dataset" / "manifest.json").read_text())
    assert manifest["rows"]["train"] + manifest["rows"]["validation"] == 7
    assert manifest["rows"]["surplus"] == told["rows"]["surplus"]
    assert read_manifest(folder / "scale") == []


def test_no_row_of_the_source_is_in_the_dataset_twice(whole: Any, workspace: Workspace) -> None:
    """Scale leaves out what the passing pilot used, and takes up what failed pilots used."""
    folders = [workspace.artifacts_path / "whole" / unit.folder.name for unit in whole.units]
    shards = [file for at in folders for file in at.glob("shards/?????.parquet")]
    found = pa.concat_tables([pq.read_table(file, columns=["id"]) for file in shards])
    assert len(folders) > 1 and len(found) == len(set(found["id"].to_pylist())) > 150


def test_the_same_seed_gives_the_same_shards(
    whole: Any, run: Any, gated: dict[str, Any], workspace: Workspace
) -> None:
    """Two runs of one pipeline agree in every value but the run's id."""
    run(gated, "second")
    assert hashes(workspace, "whole") == hashes(workspace, "second")


def test_another_seed_gives_other_rows(
    whole: Any, run: Any, gated: dict[str, Any], workspace: Workspace
) -> None:
    """The seed decides which rows are piloted and what is sampled."""
    run({**gated, "seed": 1}, "second")
    assert hashes(workspace, "whole") != hashes(workspace, "second")


def test_a_finished_run_is_resumed_without_a_call(whole: Any, workspace: Workspace) -> None:
    """Everything committed stays; the resumed run says the same and asks nothing."""
    first, before = whole.as_json(), asked(workspace)
    second = running.resume_run("whole", workspace=workspace).as_json()
    assert asked(workspace) == before
    assert second["rows"] == first["rows"] and second["iterations"] == first["iterations"]


POINTS = [
    "shard-before-rename",
    *(
        pytest.param(point, marks=pytest.mark.slow)
        for point in (
            "shard-after-rename",
            "shard-after-dirsync",
            "manifest-before-append",
            "manifest-after-append",
        )
    ),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_disk_that_fills_loses_nothing(
    whole: Any, run: Any, gated: dict[str, Any], workspace: Workspace, point: str
) -> None:
    """At every step of a commit a full disk is a clean stop; the resumed run ends as an undisturbed one."""
    from nexa_core.errors import StoreError
    from nexa_core.store import failpoints

    failpoints.arm(f"{point}=enospc:2")
    try:
        with pytest.raises((StoreError, OSError)):
            run(gated, "full")
    finally:
        failpoints.arm("")
    running.resume_run("full", workspace=workspace)
    assert hashes(workspace, "full") == hashes(workspace, "whole")


def test_replay_agrees_with_every_decision(whole: Any, workspace: Workspace) -> None:
    """Records hold all that a decision rested on."""
    replayed = reviewing.gate_replay("whole", workspace=workspace)
    assert replayed["records"] >= len(whole.iterations) and replayed["differences"] == []


def test_a_census_decides_on_the_values(
    run: Any, write_rows: Any, strict_gate: str, answering: Any
) -> None:
    """When every row was measured and nothing is scaled, no bound is needed."""
    write_rows([{"response": f"answer {n}", "question": "x"} for n in range(30)])
    pipeline = answering(
        models=None,
        accept=None,
        gate=strict_gate,
        pilot={"rows": "all", "max_iterations": 1},
        steps=[{"check": ["empty", {"runaway": {"delimiters": ["\nNEXT"]}}]}],
    )
    outcome = run(pipeline)
    assert outcome.exit_code == 0
    assert {c.basis for c in outcome.iterations[0].judged.checks} == {"census"}


def test_a_dry_source_ends_short(run: Any, gated: dict[str, Any], write_rows: Any) -> None:
    """A goal that the source cannot fill is exit 1, and says how far it came."""
    write_rows(questions(150))
    outcome = run(gated)
    assert outcome.status == "short" and outcome.exit_code == 1
    assert "the source has no more rows" in outcome.reason


def test_nothing_to_change_stops_the_campaign(run: Any, gated: dict[str, Any]) -> None:
    """A reviewer without a proposal ends the run with its reason, exit 1."""
    start_cool = json.loads(json.dumps(gated).replace('"temperature": 1.0', '"temperature": 0.2'))
    start_cool["accept"] = {"good": {"at_least": 4.0}}
    outcome = run(start_cool)
    assert outcome.status == "stopped" and "Nothing to change" in outcome.reason


def test_without_a_gate_rows_are_collected(run: Any, write_rows: Any, answering: Any) -> None:
    """A pipeline that gates nothing takes the rows it is told to and ends well."""
    write_rows(questions(50))
    rows = run(answering()).as_json()["rows"]
    assert rows["accepted"] + rows["rejected"] == 20


def test_a_changed_source_is_refused_on_resume(
    whole: Any, write_rows: Any, workspace: Workspace
) -> None:
    """Rows that were paid for must not be mixed with others."""
    write_rows(questions(901))
    with pytest.raises(SourceError, match="has changed"):
        running.resume_run("whole", workspace=workspace)


def test_a_taken_run_id_with_another_pipeline_is_refused(
    run: Any, write_rows: Any, answering: Any
) -> None:
    """One id means one pipeline."""
    write_rows(questions(50))
    run(answering(), "mine")
    with pytest.raises(UsageError, match="another pipeline"):
        run(answering(seed=7), "mine")


def test_a_second_process_is_refused(
    run: Any, write_rows: Any, workspace: Workspace, answering: Any
) -> None:
    """Two writers would spoil a run, so the second is told who holds it."""
    write_rows(questions(50))
    run(answering(), "held")
    with RunLock.acquire(workspace.artifacts_path / "held"), pytest.raises(RunLockedError):
        running.resume_run("held", workspace=workspace)


def test_a_truncated_shard_is_done_again(whole: Any, workspace: Workspace) -> None:
    """A Parquet that went bad on disk is noticed and made anew, the same."""
    before = hashes(workspace, "whole")
    shard = workspace.artifacts_path / "whole/scale/shards/00000.parquet"
    good = shard.read_bytes()
    shard.write_bytes(good[:-100])
    running.resume_run("whole", workspace=workspace)
    assert hashes(workspace, "whole") == before and len(shard.read_bytes()) == len(good)


def test_a_row_that_cannot_be_read_fails_and_the_run_goes_on(
    run: Any, write_rows: Any, answering: Any
) -> None:
    """One broken line of many is one failed row, with its line number."""
    rows: list[Any] = questions(60)
    rows[6] = '{"id": "q6", "question": '
    write_rows(rows)
    outcome = run(answering(pilot={"rows": 60}))
    table = outcome.units[0].read(outcome.units[0].entries[0])
    failed = [r for r in table.to_pylist() if r["state"] == "failed"]
    assert len(failed) == 1 and "line 7 is no JSON" in failed[0]["reason"]


def test_too_many_failures_stop_the_run(run: Any, write_rows: Any, answering: Any) -> None:
    """Beyond `fail_over` a run is not worth its money; the reason of a row is quoted."""
    write_rows([{"question": "broken" if n % 5 == 0 else f"fine {n}"} for n in range(60)])
    with pytest.raises(TooManyFailuresError, match="the server says no") as error:
        run(answering(pilot={"rows": 60}))
    assert isinstance(error.value, StepError)


def test_failures_too_few_to_judge_by_count_with_the_next_shard(
    run: Any, write_rows: Any, answering: Any
) -> None:
    """A first shard of ten broken rows stops the run when ten more are known, sound ones too."""
    write_rows([{"question": "broken" if n < 10 else f"fine {n}"} for n in range(40)])
    with pytest.raises(TooManyFailuresError, match="10 of 20 rows failed"):
        run(answering(pilot={"rows": "all", "shard_rows": 10, "max_iterations": 1}))


def test_provenance_is_in_every_row(
    run: Any, write_rows: Any, workspace: Workspace, answering: Any
) -> None:
    """A row says which run, shard, model, prompt and calls it came from."""
    write_rows(questions(30))
    run(answering(), "origin")
    shards = Path(workspace.artifacts_path / "origin/iterations/01/shards")
    row = pq.read_table(shards / "00000.parquet").to_pylist()[0]
    calls = {call["call_id"] for call in pq.read_table(shards / "00000.calls.parquet").to_pylist()}
    origin = row["provenance"]
    assert origin["run"] == "origin" and origin["steps"][0]["model"] == "scripted"
    assert set(origin["steps"][0]["call_ids"]) <= calls


def test_accept_again_asks_nothing(whole: Any, workspace: Workspace) -> None:
    """Another threshold is decided from stored scores alone."""
    before = asked(workspace)
    again = reaccept("whole", ["accept.good.at_least=4.0"], workspace=workspace)
    assert asked(workspace) == before
    assert again["rows_after"].get("accepted", 0) == 0 and again["rows_before"]["accepted"] == 150


def test_a_retry_keeps_the_earlier_attempt(run: Any, write_rows: Any, answering: Any) -> None:
    """A rejected row comes back with attempt 1 and its parent; both rows are kept."""
    write_rows(questions(40))
    accept = {"good": {"at_least": 0.5}, "retry": {"step": "answer", "attempts": 1}}
    outcome = run(answering(accept=accept, pilot={"rows": 40}))
    rows = outcome.units[0].read(outcome.units[0].entries[0]).to_pylist()
    again = [row for row in rows if row["attempt"] == 1]
    parents = {row["id"]: row for row in rows}
    assert again and all(parents[row["parent_id"]]["state"] == "rejected" for row in again)
    tally = outcome.units[0].entries[0].metrics["acceptance_rate"]
    assert tally["n"] == 40


def test_a_smoke_stops_what_ten_rows_show_to_be_broken(run: Any, gated: dict[str, Any]) -> None:
    """Ten answers of ten are rejected: the iteration ends there, and nothing else can be changed."""
    gated["accept"] = {"good": {"at_least": 100.0}}
    gated |= {"pilot": {"rows": "auto", "max_iterations": 3, "smoke": 10}, "search_space": {}}
    outcome = run(gated)
    assert [i.unit.source_rows for i in outcome.iterations] == [10]
    assert outcome.exit_code == 1 and "acceptance_rate" in outcome.reason


def test_a_smoke_that_shows_nothing_goes_on_to_the_planned_rows(
    run: Any, gated: dict[str, Any], workspace: Workspace
) -> None:
    """The second look has as many rows as without a smoke; both decisions replay."""
    gated["pilot"] = {"rows": 60, "max_iterations": 3, "smoke": 10}
    gated["steps"][0]["generate"]["sampling"]["temperature"] = 0.2
    run(gated, "smoked")
    looks = reviewing.gate_show("smoked", workspace=workspace)
    assert [(r.decision, r.look.rows) for r in looks][:2] == [("EXTEND", 10), ("PROCEED", 60)]
    assert reviewing.gate_replay("smoked", workspace=workspace)["differences"] == []


def test_slices_are_measured_reported_and_replayed(
    run: Any, gated: dict[str, Any], write_rows: Any, strict_gate: str, workspace: Workspace
) -> None:
    """Every rule once per value of the column, soft unless said; an unknown column is refused."""
    write_rows([{**row, "lang": "de" if i % 3 else "en"} for i, row in enumerate(questions(900))])
    gated["gate"] = {"extends": strict_gate, "slices": ["lang"]}
    assert run(gated, "sliced").status == "done"
    last = [r for r in reviewing.gate_show("sliced", workspace=workspace) if r.phase == "pilot"][-1]
    checks = {check["metric"]: check for check in last.checks}
    runaway = [checks[f"runaway_rate[lang={lang}]"] for lang in ("de", "en")]
    assert sum(check["n"] for check in runaway) == checks["runaway_rate"]["n"]
    assert not any(check["hard"] for check in runaway)
    assert not reviewing.gate_replay("sliced", workspace=workspace)["differences"]
    gated["gate"] = {"extends": strict_gate, "slices": ["language"]}
    with pytest.raises(UnknownNameError, match="lang"):
        run(gated)


def test_scale_goes_on_while_rows_are_missing_and_the_source_has_more(
    run: Any, write_rows: Any, answering: Any
) -> None:
    """Shards that yield less than the ones before are made up for, also where many are under way."""
    rows = [{"id": n, "question": f"{'broken ' if n % 2 else ''}{n}"} for n in range(600)]
    write_rows(rows)
    pipeline = answering(
        models={"m": {"model": "scripted/one", "api": "completions"}},
        scale={"accepted": 50},
        fail_over=0.9,
        accept=None,
        pilot=None,
    )
    pipeline["steps"] = pipeline["steps"][:1]
    done = run(pipeline, "half").as_json()
    assert (done["status"], done["rows"]["accepted"]) == ("done", 50)


def test_a_retry_takes_up_what_its_step_answered_and_nothing_else(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """What a check before that step rejected stays rejected, unasked and unpaid."""
    write_rows([{"id": n, "question": "?" * (40 if n % 2 else 4)} for n in range(10)])
    pipeline = answering(
        models={"m": {"model": "scripted/one", "api": "completions"}},
        accept={"retry": {"step": "answer", "attempts": 1}},
        scale={"rows": "all"},
        pilot=None,
    )
    short = {"check": [{"length": {"field": "question", "max_chars": 9}}]}
    long = {"check": [{"length": {"id": "long", "field": "response", "min_chars": 99}}]}
    pipeline["steps"] = [short, pipeline["steps"][0], long]
    done = run(pipeline, "again")
    rows = done.units[0].read(done.units[0].entries[0]).to_pylist()
    assert len(asked(workspace)) == 10  # five rows, each answered twice
    assert {row["source_id"] for row in rows if row["attempt"]} == {
        row["source_id"] for row in rows if len(row["question"]) == 4
    }


def test_a_pilot_that_took_the_whole_source_decides_on_it(
    run: Any, write_rows: Any, answering: Any, strict_gate: str
) -> None:
    """No row is left to ask for, also where the last fetch was exactly full: the campaign ends."""
    write_rows(questions(20))
    done = run(answering(gate=strict_gate, scale={"rows": "all"}), "small")
    (iteration,) = done.iterations
    assert str(iteration.judged.decision) != "EXTEND" and iteration.unit.exhausted
    assert done.status == "stopped"


def test_equal_rows_ask_once(
    run: Any, write_rows: Any, answering: Any, workspace: Workspace
) -> None:
    """Rows without an id and of equal content are one question: same identity, same reply, one bill."""
    write_rows([{"question": f"What is {n % 5}?"} for n in range(40)])
    pipeline = answering(
        models={"m": {"model": "scripted/one", "api": "completions"}},
        accept=None,
        scale={"rows": "all"},
        pilot=None,
    )
    pipeline["steps"] = pipeline["steps"][:1]
    done = run(pipeline, "equal").as_json()
    assert done["rows"]["accepted"] == 40 and len(asked(workspace)) == 5
    assert done["calls"] == {"asked": 5, "replayed": 35, "reused": 0}


@pytest.mark.parametrize(
    ("evaluate", "package", "told"),
    [
        ({"items": "items.jsonl"}, {"prompt": "instruction"}, "no model to evaluate"),
        ({"holdout": 5}, {"prompt": "question", "validation": 0}, "there is none"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_the_run(
    run: Any,
    answering: Any,
    write_rows: Any,
    workspace: Workspace,
    evaluate: Any,
    package: Any,
    told: str,
) -> None:
    """Not after everything is made and paid for."""
    write_rows([{"instruction": "q", "answer": "a"}], "items.jsonl")
    write_rows(questions(30))
    section = {"scorer": "contains", "arms": ["base"], **evaluate}
    pipeline = answering(evaluate=section, package={"format": "prompt-completion", **package})
    if "items" in evaluate:
        write_rows([{"instruction": "q", "response": "r"}])
        pipeline = {
            **{key: pipeline[key] for key in ("nexa", "name", "source", "package", "evaluate")},
            "steps": [{"check": ["empty"]}],
        }
    with pytest.raises(UsageError, match=told):
        run(pipeline, "never")
    assert not (workspace.artifacts_path / "never").exists()
