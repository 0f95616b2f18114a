"""From checks to a decision: the lattice of FAIL, INCONCLUSIVE and PASS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nexa_core.gates.wording import describe, join
from nexa_core.records import Decision, GateCheck, Verdict

__all__ = ["FUTILE_BELOW", "Ruling", "decide"]

FUTILE_BELOW = 0.2
"""EXTEND buys rows only where the predictive chance that all open rules pass reaches this."""


class Ruling(NamedTuple):
    """A decision, why, and how many rows EXTEND buys."""

    decision: Decision
    reason: str
    extend_rows: int = 0


def decide(
    checks: Sequence[GateCheck], iteration: int, max_iterations: int, rows: int, cap: int
) -> Ruling:
    """What follows from the checks of an iteration that has measured `rows` of at most `cap` rows.

    Any hard FAIL → ITERATE. Else any INCONCLUSIVE → EXTEND where a pass within the cap has
    predictive chance ≥ 0.2 (the product over the open rules), else ITERATE. Else PROCEED, which
    a reviewer may still veto. On the last iteration STOP stands in for ITERATE.
    """
    hard = [check for check in checks if check.hard]
    failed = [check for check in hard if check.verdict is Verdict.FAIL]
    open_ = [check for check in hard if check.verdict is Verdict.INCONCLUSIVE]
    if failed:
        return _turn_down(join(describe(check) for check in failed), iteration, max_iterations)
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


def _turn_down(reason: str, iteration: int, max_iterations: int) -> Ruling:
    if iteration < max_iterations:
        return Ruling(Decision.ITERATE, reason)
    return Ruling(Decision.STOP, f"{reason} This was iteration {iteration} of {max_iterations}.")


def _proceed_reason(hard: Sequence[GateCheck]) -> str:
    bare = [check.metric for check in hard if not check.certified]
    if bare and all(check.basis == "census" for check in hard):
        return f"All {len(hard)} hard checks hold over every row there is."
    note = f" Decided on the observed rows, uncertified: {', '.join(bare)}." if bare else ""
    return f"All {len(hard)} hard checks pass.{note}"
