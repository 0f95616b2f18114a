"""A person signs: what waits goes on, a failure is overridden and marked, and nothing is signed twice."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nexa_core.actions import reviewing, running
from nexa_core.actions.signing import sign
from nexa_core.errors import RunLockedError, StoreError, UsageError
from nexa_core.reviews import Review, read_reviews, render_review
from nexa_core.reviews.keys import KEY_PATH, open_key
from nexa_core.reviews.signing import apply_signature
from nexa_core.store.events import read_events
from nexa_core.store.lock import RunLock
from nexa_core.workspace import Workspace

TEMPERATURE = "answer.sampling.temperature"


@pytest.fixture
def asking(strict_gate: str, write_rows: Any, answering: Any) -> Any:
    """Makes a campaign whose gate asks the given reviewers; it starts hot and fails."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(900)])

    def make(*reviewers: str, temperature: float = 1.0, **changes: Any) -> dict[str, Any]:
        pipeline = answering(
            gate={
                "extends": strict_gate,
                "hard": [{"metric": "runaway_rate", "below": 0.05}],
                "reviewers": list(reviewers),
            },
            pilot={"rows": 113, "max_iterations": 3},
            search_space={TEMPERATURE: {"min": 0.1, "max": 1.0}},
            scale={"accepted": 120, "shard_rows": 60},
            **changes,
        )
        pipeline["steps"][0]["generate"]["sampling"]["temperature"] = temperature
        return dict(pipeline)

    return make


@pytest.fixture
def waiting(begin: Any, run: Any, asking: Any) -> Any:
    """The outcome of a run `r` that fails hot and waits for a person."""
    return begin("waiting", lambda: run(asking("human"), "r"))


def resume(workspace: Workspace) -> Any:
    return running.resume_run("r", workspace=workspace)


def verify(workspace: Workspace) -> list[str]:
    return reviewing.gate_verify("r", workspace=workspace)["problems"]


def test_a_run_waits_for_a_person_and_goes_on_from_the_signature(
    waiting: Any, workspace: Workspace
) -> None:
    """Waiting is exit 10 and stays so; signed with a patch it iterates, signed again it scales."""
    assert waiting.exit_code == 10
    assert resume(workspace).exit_code == 10
    sign("r", "ITERATE", "too hot", [f"{TEMPERATURE}=0.2"], workspace=workspace, signer="Ada")
    second = resume(workspace)
    assert (second.exit_code, second.iterations[1].parameters) == (10, {TEMPERATURE: 0.2})
    sign("r", "PROCEED", "good", workspace=workspace, signer="Ada")
    assert resume(workspace).as_json()["rows"]["accepted"] == 120
    assert verify(workspace) == []
    assert reviewing.gate_replay("r", workspace=workspace)["differences"] == []


def test_without_a_value_the_reviewers_proposal_is_signed(
    run: Any, asking: Any, workspace: Workspace
) -> None:
    """Reviewers after the person propose; nothing changes until the person signs."""
    outcome = run(asking("human", "cooler"), "r")
    assert outcome.exit_code == 10 and outcome.iterations[0].judged.changes == {
        TEMPERATURE: [1.0, 0.2]
    }
    signed = sign("r", "ITERATE", "as proposed", workspace=workspace)
    assert signed.changes == {TEMPERATURE: [1.0, 0.2]} and not signed.waiting


def test_only_a_person_turns_a_failure_into_proceed_and_everything_says_so(
    run: Any, asking: Any, workspace: Workspace, write_rows: Any
) -> None:
    """The override scales against its failing rule; dataset, card, comparison, report carry the mark."""
    write_rows([{"id": "i", "instruction": "What is 1?", "answer": "one"}], "items.jsonl")
    package = {"format": "prompt-completion", "validation": 0.05}
    evaluate = {"items": "items.jsonl", "arms": ["base"]}
    run(asking("human", package=package, evaluate=evaluate), "r")
    signed = sign("r", "PROCEED", "a demo only", workspace=workspace, signer="Ada")
    assert [one["metric"] for one in signed.signature["overrides"]] == ["runaway_rate"]
    outcome = resume(workspace)
    assert outcome.status == "done"
    folder = workspace.artifacts_path / "r"
    manifest = json.loads((folder / "dataset" / "manifest.json").read_text())
    (mark,) = manifest["marks"]
    assert mark.startswith("override: runaway_rate FAIL in iteration 1, signed by Ada: a demo only")
    records = reviewing.gate_show("r", workspace=workspace)
    assert (
        manifest["review_head"] == [r.hash for r in records if r.phase in ("scale", "package")][-1]
    )
    assert json.loads((folder / "evaluation" / "comparison.json").read_text())["marks"] == [mark]
    assert "override: runaway" in (folder / "dataset" / "README.md").read_text()
    assert "override: runaway" in (folder / "report.html").read_text()
    assert verify(workspace) == []


def test_a_stopped_run_can_be_overridden(run: Any, asking: Any, workspace: Workspace) -> None:
    """The gate's own STOP is not the last word of a person."""
    assert run(asking(), "r").status == "stopped"
    sign("r", "PROCEED", "known and accepted", workspace=workspace)
    assert resume(workspace).status == "done"


def test_a_signed_stop_ends_the_run(run: Any, asking: Any, workspace: Workspace) -> None:
    """STOP needs no parameter and is exit 1."""
    run(asking("human", temperature=0.2), "r")
    sign("r", "STOP", "not worth it", workspace=workspace, signer="Ada")
    outcome = resume(workspace)
    assert (outcome.exit_code, outcome.reason) == (1, "Ada signed STOP: not worth it")


REFUSED = [
    ("ITERATE", "why", [f"{TEMPERATURE}=3"], "lies outside 0.1 to 1"),
    ("ITERATE", "why", ["accept.good.at_least=0"], "is not in search_space"),
    ("ITERATE", "why", [f"{TEMPERATURE}=hot"], "is no number"),
    ("ITERATE", "why", [f"{TEMPERATURE}=.nan"], "lies outside|is no"),
    ("ITERATE", "why", [TEMPERATURE], "sets nothing"),
    ("ITERATE", "why", [], "changes nothing"),
    ("PROCEED", "why", [f"{TEMPERATURE}=0.2"], "changes no parameter"),
    ("PROCEED", "  ", [], "needs a reason"),
    ("EXTEND", "why", [], "cannot be signed"),
]


def test_what_cannot_be_signed_is_exit_2_and_leaves_no_trace(
    waiting: Any, workspace: Workspace
) -> None:
    """Outside the space, without a reason, changing nothing: refused, and nothing is written."""
    for decision, reason, sets, told in REFUSED:
        with pytest.raises(UsageError, match=told) as caught:
            sign("r", decision, reason, sets, workspace=workspace)
        assert caught.value.exit_code == 2
    assert len(reviewing.gate_show("r", workspace=workspace)) == 1


def test_what_does_not_wait_is_not_signed(waiting: Any, workspace: Workspace) -> None:
    """Signed already, seen before another record, gone on since: each is told."""
    with pytest.raises(UsageError, match="no longer the last"):
        sign("r", "STOP", "why", workspace=workspace, review="0123abcd")
    first = sign("r", "ITERATE", "why", [f"{TEMPERATURE}=0.2"], workspace=workspace, review="1")
    with pytest.raises(UsageError, match=r"signed already: .* signed ITERATE: why"):
        sign("r", "STOP", "no", workspace=workspace)
    resume(workspace)
    with pytest.raises(UsageError, match="no longer the last"):
        sign("r", "PROCEED", "why", workspace=workspace, review=first.hash)
    sign("r", "PROCEED", "why", workspace=workspace, review="3")
    resume(workspace)
    with pytest.raises(UsageError, match="the run went on from it"):
        sign("r", "STOP", "late", workspace=workspace)


def test_what_went_on_by_itself_is_not_signed(run: Any, asking: Any, workspace: Workspace) -> None:
    """A decision from which rows were made stands."""
    run(asking("cooler"), "r")
    with pytest.raises(UsageError, match="the run went on from it"):
        sign("r", "STOP", "late", workspace=workspace)


def test_of_two_people_one_signs_and_the_other_is_told(waiting: Any, workspace: Workspace) -> None:
    """While one holds the run the other is refused; afterwards it is signed already."""

    def attempt(decision: str) -> str:
        try:
            return sign("r", decision, "me first", workspace=workspace).decision
        except (UsageError, RunLockedError) as told:
            return type(told).__name__

    with (
        RunLock.acquire(workspace.artifacts_path / "r"),
        pytest.raises(RunLockedError, match="it runs, or somebody signs it"),
    ):
        sign("r", "STOP", "second", workspace=workspace)
    with ThreadPoolExecutor() as people:
        found = set(people.map(attempt, ["PROCEED", "STOP"]))
    assert len(found & {"PROCEED", "STOP"}) == len(found & {"UsageError", "RunLockedError"}) == 1
    assert len(read_reviews(workspace.reviews_path / "r")) == 2


def test_the_events_tell_of_a_signature(waiting: Any, workspace: Workspace) -> None:
    """Screens see who decided what; the chain's head is in the log."""
    signed = sign("r", "ITERATE", "cool", {TEMPERATURE: 0.3}, workspace=workspace, signer="Ada")
    *_, decided, changed = read_events(workspace.artifacts_path / "r").records
    assert (decided["signer"], decided["review"]) == ("Ada", signed.hash)
    assert changed["changes"] == {TEMPERATURE: [1.0, 0.3]}


def test_the_key_is_private_and_made_once(workspace: Workspace) -> None:
    """Mode 0600 in a folder that git ignores by itself; one that others may read is refused."""
    key = open_key(workspace.root)
    path = workspace.root / KEY_PATH
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert open_key(workspace.root).public == key.public
    path.chmod(0o640)
    with pytest.raises(StoreError, match="may be read by others"):
        open_key(workspace.root)


def test_a_forged_signature_is_found(waiting: Any, workspace: Workspace) -> None:
    """Who writes a record anew, hash and all, still lacks the key."""
    signed = sign("r", "PROCEED", "fine", workspace=workspace, signer="Ada")
    folder = workspace.reviews_path / "r"
    forgeries = {"reason": "other", "decision": "STOP", "signer": "Eve", "signature": "00" * 64}
    for field, value in forgeries.items():
        forged = apply_signature(read_reviews(folder)[1], {**signed.signature, field: value})
        sealed = Review.from_json({**forged.as_json(), "hash": forged.seal()})
        (folder / sealed.file_name).write_bytes(sealed.as_bytes())
        (folder / sealed.file_name).with_suffix(".md").write_text(render_review(sealed))
        assert any("not that of the key it names" in told for told in verify(workspace))
