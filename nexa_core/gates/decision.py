"""From checks to a decision, and from reviewers' opinions to what really happens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nexa_core.gates.learning import tell_learned
from nexa_core.gates.wording import describe, join
from nexa_core.records import Decision, Evidence, GateCheck, Opinion, Verdict

__all__ = [
    "FUTILE_BELOW",
    "Conclusion",
    "Ruling",
    "conclude",
    "decide",
    "is_veto",
    "refuse_changes",
    "settle",
]

_LONGEST = 120
FUTILE_BELOW = 0.2
"""EXTEND buys rows only where the predictive chance that all open rules pass reaches this."""


class Ruling(NamedTuple):
    """A decision, why, and how many rows EXTEND buys."""

    decision: Decision
    reason: str
    extend_rows: int = 0


def decide(
    checks: Sequence[GateCheck],
    iteration: int,
    max_iterations: int,
    rows: int,
    cap: int,
    planned: int = 0,
) -> Ruling:
    """What follows from the checks of an iteration that has measured `rows` of at most `cap` rows.

    Any hard FAIL → ITERATE. Else any INCONCLUSIVE → EXTEND where a pass within the cap has
    predictive chance ≥ 0.2 (the product over the open rules), else ITERATE. Else PROCEED, which
    a reviewer may still veto. On the last iteration STOP stands in for ITERATE. A look at fewer rows
    than were `planned` (a smoke) ends the iteration on a FAIL only, and else buys the planned rows:
    the evidence is valid at every look, so that this one costs no confidence.
    """
    hard = [check for check in checks if check.hard]
    failed = [check for check in hard if check.verdict is Verdict.FAIL]
    open_ = [check for check in hard if check.verdict is Verdict.INCONCLUSIVE]
    if failed:
        return _turn_down(join(describe(check) for check in failed), iteration, max_iterations)
    if rows < planned:
        reason = f"{rows:,} rows show nothing that fails for certain; {planned:,} were planned."
        return Ruling(Decision.EXTEND, reason, planned - rows)
    if not open_:
        return Ruling(Decision.PROCEED, _proceed_reason(hard))
    chance = math.prod(check.chance or 0.0 for check in open_)
    wanted = max((check.rows_likely or 0 for check in open_), default=0)
    told = join(describe(check) for check in open_)
    if chance >= FUTILE_BELOW and 0 < wanted <= cap - rows:
        reason = f"{told} {wanted:,} more rows may decide it."
        return Ruling(Decision.EXTEND, reason, wanted)
    futile = "" if rows >= cap else f" A pass within {cap:,} rows has chance {chance:.0%}."
    capped = f" {rows:,} rows are the most one iteration may have." if rows >= cap else ""
    return _turn_down(told + futile + capped, iteration, max_iterations)


def settle(checks: Sequence[GateCheck]) -> Ruling:
    """What follows where no further row can be bought: STOP where a hard rule fails, else PROCEED."""
    hard = [check for check in checks if check.hard]
    failed = [check for check in hard if check.verdict is Verdict.FAIL]
    if failed:
        return Ruling(Decision.STOP, join(describe(check) for check in failed))
    open_ = [check.metric for check in hard if check.verdict is Verdict.INCONCLUSIVE]
    if not hard:
        told = join(describe(check) for check in checks)
        return Ruling(Decision.PROCEED, f"Reported, decides nothing: {told}" if told else "")
    if not open_:
        return Ruling(Decision.PROCEED, _proceed_reason(hard))
    reason = f"No hard check fails; undecided: {', '.join(open_)}."
    return Ruling(Decision.PROCEED, reason)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What really happens after the reviewers had their say.

    `changes` maps parameter paths to (old, new). `waiting`: only a person can go on, and `changes`
    are what the reviewers propose to that person. `refused` tells of patches outside the space and
    of vetoes that cite nothing, in the order of the opinions.
    """

    decision: Decision
    reason: str
    extend_rows: int = 0
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    patch_reason: str = ""
    waiting: bool = False
    refused: tuple[str, ...] = ()


def conclude(ruling: Ruling, opinions: Sequence[Opinion], evidence: Evidence) -> Conclusion:
    """What follows from a ruling and the reviewers' opinions, in the order they were asked.

    ITERATE takes the first non-empty patch inside the search space; without one the campaign
    stops. PROCEED is turned into ITERATE by a veto that cites evidence; on the last iteration, and
    where nobody proposes a patch, it waits for a person. It waits too where an opinion `waits`,
    unless a patch comes before it. No opinion turns any other ruling into PROCEED.
    """
    refused = tuple(told for opinion in opinions if (told := _refuse(opinion, evidence)))
    start = Conclusion(ruling.decision, ruling.reason, ruling.extend_rows, refused=refused)
    if ruling.decision is Decision.ITERATE:
        return _take_patch(start, opinions, evidence)
    if ruling.decision is Decision.STOP:
        return replace(start, reason=_with_learned(start.reason, evidence))
    if ruling.decision is not Decision.PROCEED:
        return start
    vetoes = [opinion for opinion in opinions if is_veto(opinion, evidence)]
    if not vetoes:
        asked = any(opinion.waits for opinion in opinions)
        return replace(start, waiting=True, reason=_wait(start.reason)) if asked else start
    cited = ", ".join(cite for cite in vetoes[0].cites if cite in evidence.ids)
    veto = f"{vetoes[0].reviewer} vetoes, citing {cited}: {vetoes[0].reason}"
    if evidence.iteration >= evidence.max_iterations:
        return replace(start, waiting=True, reason=_wait(veto))
    turned = replace(start, decision=Decision.ITERATE, reason=veto)
    found = _take_patch(turned, opinions, evidence)
    # Every rule passes and nobody knows what to change: no reason to throw the pilot away.
    return found if found.changes else replace(turned, waiting=True, reason=_wait(veto))


def is_veto(opinion: Opinion, evidence: Evidence) -> bool:
    """Whether an opinion is a veto that counts: it cites something that is in the evidence."""
    return opinion.veto and not evidence.ids.isdisjoint(opinion.cites)


def refuse_changes(
    changes: Mapping[str, Any],
    parameters: Mapping[str, Any],
    search_space: Mapping[str, Mapping[str, Any]],
) -> str | None:
    """Why a patch is refused as a whole; None when every value lies inside the search space."""
    for path, value in changes.items():
        space, shown = search_space.get(path), _show_value(value)
        if space is None:
            return f"'{_shorten(path)}' is not in search_space"
        if "choices" in space:
            if not any(_equal(value, choice) for choice in space["choices"]):
                return f"{path} = {shown} is none of its choices"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return f"{path} = {shown} is no number"
        elif not space["min"] <= value <= space["max"]:
            return f"{path} = {shown} lies outside {space['min']:g} to {space['max']:g}"
        elif type(parameters.get(path)) is int and not isinstance(value, int):
            return f"{path} = {shown} is no whole number"
    return None


def _equal(value: Any, choice: Any) -> bool:
    """Equal, and not only as True equals 1."""
    return isinstance(value, bool) == isinstance(choice, bool) and bool(value == choice)


def _show_value(value: Any) -> str:
    """A value that anybody may have proposed, as a text that has an end."""
    if isinstance(value, float):
        return f"{value:g}"
    try:
        return _shorten(repr(value))
    except ValueError:  # an integer of more digits than Python writes
        return "a number without end"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _refuse(opinion: Opinion, evidence: Evidence) -> str | None:
    why = refuse_changes(opinion.changes, evidence.parameters, evidence.search_space)
    if why:
        return f"The patch of {opinion.reviewer} was refused: {why}."
    if opinion.veto and not is_veto(opinion, evidence):
        what = f"what is not in the evidence ({', '.join(opinion.cites)})"
        cited = what if opinion.cites else "nothing"
        return f"The veto of {opinion.reviewer} cites {cited} and counts as an abstention."
    return None


def _take_patch(start: Conclusion, opinions: Sequence[Opinion], evidence: Evidence) -> Conclusion:
    """The first sound patch; it waits where a person is asked before it, or would be the next."""
    asked = False
    for opinion in opinions:
        asked = asked or opinion.waits
        if refuse_changes(opinion.changes, evidence.parameters, evidence.search_space):
            continue
        old = evidence.parameters
        changes = {p: (old.get(p), new) for p, new in opinion.changes.items() if new != old.get(p)}
        if changes:
            found = replace(start, changes=changes, patch_reason=opinion.reason)
            return replace(found, waiting=True, reason=_wait(start.reason)) if asked else found
    if asked:
        return replace(start, waiting=True, reason=_wait(start.reason))
    why = join([*(o.reason for o in opinions if o.reason and not o.changes), *start.refused])
    reason = f"{start.reason} Nothing to change: {why or 'no reviewer proposed anything.'}"
    return replace(start, decision=Decision.STOP, reason=_with_learned(reason, evidence))


def _with_learned(reason: str, evidence: Evidence) -> str:
    return f"{reason} {tell_learned(evidence)}".rstrip()


def _wait(reason: str) -> str:
    return f"{reason} A person must decide."


def _turn_down(reason: str, iteration: int, max_iterations: int) -> Ruling:
    if iteration < max_iterations:
        return Ruling(Decision.ITERATE, reason)
    return Ruling(Decision.STOP, f"{reason} This was iteration {iteration} of {max_iterations}.")


def _proceed_reason(hard: Sequence[GateCheck]) -> str:
    bare = [check.metric for check in hard if not check.certified]
    one = len(hard) == 1
    every = "The one hard check" if one else f"All {len(hard)} hard checks"
    if bare and all(check.basis == "census" for check in hard):
        return f"{every} {'holds' if one else 'hold'} over every row there is."
    note = f" Decided on the observed rows, uncertified: {', '.join(bare)}." if bare else ""
    return f"{every} {'passes' if one else 'pass'}.{note}"
