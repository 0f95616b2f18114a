"""What was decided and why: show, replay and verify a run's reviews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core.engine.binding import stored_prompt
from nexa_core.engine.loop import run_async
from nexa_core.engine.packaging import read_manifest as read_dataset
from nexa_core.engine.seating import reviewer_prompt_key
from nexa_core.gates import Gate, ReviewerUse
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.protocols import Reviewer
from nexa_core.records import Evidence, Opinion
from nexa_core.reviews import (
    RecordedAsker,
    Review,
    as_recorded,
    count_records,
    read_public_key,
    read_reviews,
    replay,
    trace_patches,
    verify_chain,
)
from nexa_core.store.events import read_events
from nexa_core.store.runs import Run, ShardFolder, open_run
from nexa_core.workspace import Workspace


def gate_show(run: str, *, workspace: Workspace) -> list[Review]:
    """Every decision of a run, in order."""
    found = open_run(workspace.artifacts_path, run)
    return list(read_reviews(workspace.reviews_path / found.id))


def gate_replay(run: str, *, workspace: Workspace) -> dict[str, Any]:
    """Recompute every decision from its record, without a model; differences are listed."""
    reviews = gate_show(run, workspace=workspace)
    found = open_run(workspace.artifacts_path, run)
    plugins = load_plugins(workspace)
    differences = [
        {"review": review.number, "difference": str(difference)}
        for review in reviews
        for difference in replay(review, _replayable(review, plugins, found))
    ]
    differences += _trace_again(reviews)
    verified = gate_verify(run, workspace=workspace)
    differences += [{"review": None, "difference": told} for told in verified["problems"]]
    return {"run": verified["run"], "records": len(reviews), "differences": differences}


def _trace_again(reviews: Sequence[Review]) -> list[dict[str, Any]]:
    """Records whose account of earlier proposals does not follow from the records before them."""
    found = []
    for position, review in enumerate(reviews):
        if review.phase == "pilot" and review.signature is None:
            checks = review.evidence().checks
            track = trace_patches(reviews[:position], review.iteration, checks)
            if [dict(one) for one in review.track] != as_recorded(track):
                told = f"track: recorded {list(review.track)!r}, recomputed {track!r}"
                found.append({"review": review.number, "difference": told})
    return found


def gate_verify(run: str, *, workspace: Workspace) -> dict[str, Any]:
    """Check a run's records against themselves and against the heads that others keep.

    Finds every edited byte, and a cut tail as long as the events or the dataset hold a head.
    """
    found = open_run(workspace.artifacts_path, run)
    folder = workspace.reviews_path / found.id
    heads = _find_heads(found)
    problems = list(verify_chain(folder))
    reviews = () if problems else read_reviews(folder)
    if not problems:
        problems += _check_heads(heads, [review.hash for review in reviews])
    signed = [review for review in reviews if review.signature is not None]
    ours = read_public_key(workspace.root)
    return {
        "run": found.id,
        "records": count_records(folder),
        "head": reviews[-1].hash if reviews else None,
        "heads": sorted(heads),
        "signatures": [_describe_signature(review, ours) for review in signed],
        "problems": problems,
    }


def _find_heads(run: Run) -> dict[str, str]:
    """The newest record that each keeper of a head tells of, by the keeper's path in the run."""
    heads = {}
    decided = [r for r in read_events(run.path).records if r["event"] == "GateDecided"]
    if decided:
        heads["events.jsonl"] = str(decided[-1]["review"])
    manifest = read_dataset(run.dataset)
    if manifest and manifest.get("review_head"):
        heads["dataset/manifest.json"] = str(manifest["review_head"])
    return heads


def _check_heads(heads: Mapping[str, str], hashes: Sequence[str]) -> list[str]:
    """The events know the last record; a dataset knows one, as a person may decide after it."""
    problems = []
    for keeper, head in heads.items():
        last = hashes[-1] if hashes else ""
        if head not in hashes:
            problems.append(
                f"{keeper} knows a record {head[:12]} that is not there: it was removed."
            )
        elif keeper == "events.jsonl" and head != last:
            problems.append(f"{keeper} knows nothing of the records after {head[:12]}.")
    if hashes and "events.jsonl" not in heads:
        problems.append("events.jsonl tells of no decision, and there are records.")
    return problems


def _describe_signature(review: Review, ours: str | None) -> dict[str, Any]:
    signature = review.signature or {}
    key = str(signature["public_key"])
    return {
        "record": review.number,
        "signer": signature["signer"],
        "decision": signature["decision"],
        "signed_at": signature["signed_at"],
        "key": key[:16],
        "ours": key == ours,
    }


def _replayable(review: Review, plugins: Plugins, run: Run) -> list[Any]:
    """The record's reviewers in their order, built as they were; None for one that is not installed."""
    return [_build_again(use, plugins, run) for use in Gate.from_json(review.gate).reviewers]


def _build_again(use: ReviewerUse, plugins: Plugins, run: Run) -> Any:
    if use.name not in plugins.reviewers.names():
        return None
    stored = run.record["prompts"].get(reviewer_prompt_key(use))
    facts: dict[str, Any] = {"instructions": stored_prompt(stored) if stored else None}
    facts["folder"] = str(plugins.workspace.root)
    spec = plugins.reviewers.get(use.name)
    reviewer: Reviewer = plugins.build(spec, dict(use.options), facts)

    def review(evidence: Evidence, ask: RecordedAsker) -> Opinion:
        return run_async(reviewer.review(evidence, ask))

    return review


def dataset_folders(run: Run, workspace: Workspace) -> list[ShardFolder]:
    """The units a run's dataset is made of: the iteration that passed (else the last), then scale."""
    reviews = read_reviews(workspace.reviews_path / run.id, "pilot")
    passed = [review.iteration for review in reviews if review.decision == "PROCEED"]
    iterations = run.iterations()
    pilots = [run.iteration(passed[-1])] if passed else iterations[-1:]
    return [folder for folder in [*pilots, run.scale] if folder.path.exists()]
