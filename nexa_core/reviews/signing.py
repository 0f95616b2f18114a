"""What a person signs: a decision over a record's evidence, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nexa_core.errors import UsageError
from nexa_core.gates import refuse_changes
from nexa_core.records import Decision, Verdict, canonical_json, mend_text
from nexa_core.reviews.keys import SigningKey, is_signed
from nexa_core.reviews.record import Review

__all__ = [
    "apply_signature",
    "check_signature",
    "describe_overrides",
    "find_overridden",
    "sign_review",
]

_SIGNED = (
    "run",
    "evidence",
    "phase",
    "iteration",
    "decision",
    "reason",
    "changes",
    "overrides",
    "overrules",
    "signer",
    "signed_at",
)
"""What the signature covers; `evidence` is the hash of the record that was signed."""


def sign_review(
    review: Review,
    decision: Decision,
    reason: str,
    changes: Mapping[str, Any] | None,
    signer: str,
    key: SigningKey,
) -> Review:
    """The record that a person's decision over `review` makes: its evidence, and what was signed.

    `changes` maps parameter paths to new values; where it is None, what the reviewers proposed
    is taken for ITERATE.

    Raises:
        UsageError: The decision cannot be signed: no reason, nothing to change, a value outside
            `search_space`, no iteration left.
    """
    if not reason.strip():
        raise UsageError("A signature needs a reason.", 'Say why: --reason "…".')
    wanted = _find_changes(review, decision, changes)
    signed = {
        "run": review.run,
        "evidence": review.hash,
        "phase": review.phase,
        "iteration": review.iteration,
        "decision": str(decision),
        "reason": mend_text(reason.strip()),
        "changes": wanted,
        "overrides": _list_open(review) if decision is Decision.PROCEED else [],
        "overrules": _list_vetoes(review) if decision is Decision.PROCEED else [],
        "signer": mend_text(signer),
        "signed_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    signature = key.sign(_encode(signed))
    stamped = {**signed, "public_key": key.public, "signature": signature}
    return apply_signature(review, stamped)


def apply_signature(review: Review, signature: Mapping[str, Any]) -> Review:
    """The record over a review's evidence with what its signature decides in place of the reviewers."""
    old = review.parameters
    changes = {path: [old.get(path), new] for path, new in signature["changes"].items()}
    return replace(
        review,
        decision=signature["decision"],
        reason=_tell(signature),
        extend_rows=0,
        changes=changes,
        patch_reason=signature["reason"] if changes else "",
        waiting=False,
        cost_nano=0,
        signature=dict(signature),
    )


def check_signature(review: Review, before: Review | None) -> tuple[str, ...]:
    """What is wrong with a signed record, given the one before it; nothing for an unsigned one."""
    signature = review.signature
    if signature is None:
        return ()
    problems = []
    message = _encode({name: signature.get(name) for name in _SIGNED})
    if not is_signed(message, str(signature.get("signature")), str(signature.get("public_key"))):
        problems.append("its signature is not that of the key it names.")
    if before is None or signature.get("evidence") != before.hash:
        problems.append("what was signed is not the record before it.")
    elif apply_signature(_renumber(before, review), signature).as_json() != review.as_json():
        problems.append("it does not say what was signed.")
    return tuple(problems)


def find_overridden(reviews: Sequence[Review]) -> frozenset[str]:
    """The rules that a person let pass: they stop nothing later in the run.

    Who takes a drift as it is has not let a rule pass.
    """
    signatures = [
        review.signature
        for review in reviews
        if review.signature is not None and review.method == "gate"
    ]
    return frozenset(one["metric"] for signed in signatures for one in signed["overrides"])


def describe_overrides(reviews: Sequence[Review]) -> tuple[str, ...]:
    """A mark for every artefact that was made because a person overrode the gate or a veto."""
    marks = []
    for signature in (review.signature for review in reviews if review.signature is not None):
        over = [f"{one['metric']} {one['verdict']}" for one in signature["overrides"]]
        over += [f"the veto of {name}" for name in signature["overrules"]]
        if over:
            marks.append(
                f"override: {' and '.join(over)} {_tell_where(signature)}, "
                f"signed by {signature['signer']}: {signature['reason']}"
            )
    return tuple(marks)


def _find_changes(
    review: Review, decision: Decision, changes: Mapping[str, Any] | None
) -> dict[str, Any]:
    if decision is not Decision.ITERATE:
        if changes:
            raise UsageError(
                f"{decision} changes no parameter, and '{next(iter(changes))}' was set.",
                "Sign --iterate to go on with other parameters.",
            )
        return {}
    if review.phase != "pilot":
        raise UsageError(
            f"Only a pilot can be tried again with other parameters, and this is the {review.phase}.",
            "Sign --proceed or --stop.",
        )
    if review.iteration >= review.max_iterations:
        raise UsageError(
            f"Iteration {review.iteration} of {review.max_iterations} was the last: the campaign's "
            "confidence is spent.",
            "Sign --proceed or --stop, or start a new run with more pilot.max_iterations.",
        )
    given = {path: new for path, (_, new) in _find_proposal(review).items()}
    given = given if changes is None else dict(changes)
    refused = refuse_changes(given, review.parameters, review.search_space)
    if refused:
        raise UsageError(
            f"The change is refused: {refused}.",
            f"Inside search_space: {_describe_space(review)}.",
        )
    moved = {path: new for path, new in given.items() if new != review.parameters.get(path)}
    if not moved:
        raise UsageError(
            "ITERATE changes nothing: another iteration would measure the same again.",
            f"Add --set PATH=VALUE; inside search_space: {_describe_space(review)}.",
        )
    return moved


def _find_proposal(review: Review) -> Mapping[str, Sequence[Any]]:
    """The reviewers' patch: that of the record, else the first sound one of the opinions."""
    if review.changes:
        return review.changes
    for opinion in review.opinions:
        patch = opinion["changes"]
        if patch and not refuse_changes(patch, review.parameters, review.search_space):
            return {path: (review.parameters.get(path), new) for path, new in patch.items()}
    return {}


def _describe_space(review: Review) -> str:
    parts = []
    for path, space in review.search_space.items():
        if "choices" in space:
            parts.append(f"{path} one of {', '.join(map(str, space['choices']))}")
        else:
            parts.append(f"{path} {space['min']:g} to {space['max']:g}")
    return "; ".join(parts) or "nothing may change"


def _tell_where(signature: Mapping[str, Any]) -> str:
    if signature["phase"] == "pilot":
        return f"in iteration {signature['iteration']}"
    return f"after {signature['phase']}"


def _list_open(review: Review) -> list[dict[str, Any]]:
    """The hard rules that did not pass, with what they measured."""
    return [
        {name: check[name] for name in ("metric", "verdict", "k", "n", "value", "threshold")}
        for check in review.checks
        if check["hard"] and check["verdict"] != Verdict.PASS
    ]


def _list_vetoes(review: Review) -> list[str]:
    """The reviewers whose vetoes counted."""
    return [
        opinion["reviewer"]
        for opinion in review.opinions
        if opinion["veto"] and review.ids.intersection(opinion["cites"])
    ]


def _tell(signature: Mapping[str, Any]) -> str:
    over = [f"{one['metric']} ({one['verdict']})" for one in signature["overrides"]]
    over += [f"the veto of {name}" for name in signature["overrules"]]
    overriding = f" over {' and '.join(over)}" if over else ""
    return (
        f"{signature['signer']} signed {signature['decision']}{overriding}: {signature['reason']}"
    )


def _renumber(before: Review, review: Review) -> Review:
    """The evidence of one record at the place of the next."""
    return replace(
        before,
        number=review.number,
        previous=review.previous,
        created_at=review.created_at,
        hash=review.hash,
    )


def _encode(signed: Mapping[str, Any]) -> bytes:
    return canonical_json({name: signed.get(name) for name in _SIGNED}).encode()
