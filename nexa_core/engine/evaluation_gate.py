"""The gate of an evaluation: what will be tested is on record before any arm is asked, then decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nexa_core.engine.arms import Arm
from nexa_core.engine.comparison import Compared
from nexa_core.engine.context import Context
from nexa_core.engine.items import Items
from nexa_core.engine.verdicts import decide_phase
from nexa_core.errors import UsageError
from nexa_core.gates import GAIN, Gate, Look, evaluation_gate
from nexa_core.pipeline import Evaluate
from nexa_core.reviews import Review, read_reviews

if TYPE_CHECKING:
    from nexa_core.engine.evaluation import Evaluation

__all__ = ["judge_evaluation", "register"]

PHASE = "evaluate"
PLAN = "evaluation_plan"


def register(
    context: Context,
    settings: Evaluate,
    items: Items,
    arms: Sequence[Arm],
    scorer: str,
    compared: tuple[str, str] | None,
) -> Review:
    """Put on record what will be tested, how, and on which items, before anything is asked.

    Another plan after a result was seen is another record, which names the one that it amends.
    """
    if settings.cluster is not None:
        _require_clusters(items, settings.cluster)
    terms = {
        "items": items.name,
        "item_hash": items.hash,
        "n": len(items.rows),
        "scorer": scorer,
        "arms": {arm.name: arm.prompt.hash for arm in arms},
        "compared": list(compared) if compared else None,
        "alpha": settings.alpha,
        "effect": settings.effect,
        "test": "sign_flip" if settings.cluster else "mcnemar_midp",
        "cluster": settings.cluster,
        "required": settings.require is not None,
    }
    earlier = [r for r in read_reviews(context.reviews, PHASE) if r.method == "plan"]
    amended = dict(earlier[-1].terms) if earlier else {}
    if earlier and {k: v for k, v in amended.items() if k != "amends"} == terms:
        return earlier[-1]
    terms |= {"amends": earlier[-1].hash} if earlier else {}
    gate = _gate(settings).renamed(PLAN)
    rows = len(items.rows)
    return decide_phase(context, PHASE, gate, Look(gate.alpha(1), rows, rows), {}, "plan", terms)


def judge_evaluation(
    context: Context, settings: Evaluate, plan: Review, found: Evaluation
) -> Review | None:
    """Decide by the registered test, and keep the record; None where nothing was compared."""
    if not found.comparisons:
        return None
    headline = found.comparisons[0]
    gate, n = _gate(settings), headline.pairs.n
    terms = {
        "plan": plan.hash,
        "compared": [headline.arm_a, headline.arm_b],
        **{key: plan.terms[key] for key in ("item_hash", "alpha", "effect", "test")},
    }
    tallies = {GAIN: _count(headline) | _count_clusters(found, headline, settings.cluster)}
    return decide_phase(context, PHASE, gate, Look(gate.alpha(1), n, n), tallies, "paired", terms)


def _gate(settings: Evaluate) -> Gate:
    return evaluation_gate(settings.alpha, settings.effect, settings.require is not None)


def _count(compared: Compared) -> dict[str, Any]:
    return {key: getattr(compared.pairs, key) for key in ("a", "b", "c", "d")}


def _count_clusters(
    found: Evaluation, compared: Compared, column: str | None
) -> dict[str, list[int]]:
    """Per cluster, items won minus items lost, in the order in which clusters first come."""
    if column is None:
        return {}
    outcomes = {each.arm: each.outcomes for each in found.predictions}
    a, b = outcomes[compared.arm_a], outcomes[compared.arm_b]
    sums: dict[str, int] = {}
    for item in found.items.rows:
        if item["id"] in a and item["id"] in b:
            name = str(item[column])
            sums[name] = sums.get(name, 0) + int(b[item["id"]]) - int(a[item["id"]])
    return {"clusters": list(sums.values())}


def _require_clusters(items: Items, column: str) -> None:
    without = sum(item.get(column) is None for item in items.rows)
    if without:
        raise UsageError(
            f"'evaluate.cluster: {column}': {without} of {len(items.rows)} items have no '{column}'.",
            "Name a column that every item has.",
        )
