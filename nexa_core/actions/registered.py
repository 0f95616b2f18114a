"""What an evaluation outside of a run is beside the plans that runs put on record before they asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.arms import Arm
from nexa_core.engine.items import Items
from nexa_core.errors import StoreError
from nexa_core.pipeline import Evaluate
from nexa_core.reviews import Review, read_reviews, verify_chain

__all__ = ["mark_by_plans"]

NOT_PLANNED = (
    "exploratory: no plan is on record for these items, so that its p-values are those of a look, "
    "not of a registered test"
)


def mark_by_plans(
    reviews: Path, items: Items, arms: Sequence[Arm], scorer: str, settings: Evaluate
) -> list[str]:
    """One sentence for each run whose registered plan is about the same items: as it says, or in what not.

    Where none is, the one that says so. `reviews` is the folder that holds those of all runs.
    """
    marks = []
    for run, plan in _find_plans(reviews):
        terms = plan.terms
        if terms.get("item_hash") != items.hash and terms.get("items") != items.name:
            continue
        other = list(_differ(terms, items, arms, scorer, settings))
        named = f"the plan that run '{run}' registered ({plan.hash[:8]})"
        same = "same items, scorer, prompts and test, other arms"
        marks.append(
            f"differs from {named}: {'; '.join(other)}" if other else f"as {named}: {same}"
        )
    return marks or [NOT_PLANNED]


def _find_plans(reviews: Path) -> Iterator[tuple[str, Review]]:
    """The plan in force of every run whose records hold together; what is wrong is the audit's to tell."""
    for folder in sorted(reviews.iterdir()) if reviews.is_dir() else ():
        try:
            plans = [one for one in read_reviews(folder, "evaluate") if one.method == "plan"]
        except StoreError:
            continue
        if plans and not verify_chain(folder):
            yield folder.name, plans[-1]


def _differ(
    terms: Any, items: Items, arms: Sequence[Arm], scorer: str, settings: Evaluate
) -> Iterator[str]:
    if terms.get("item_hash") != items.hash:
        yield f"{len(items.rows)} items where {terms.get('n')} others were registered"
    if terms.get("scorer") != scorer:
        yield f"scored by {scorer} where {terms.get('scorer')} was registered"
    known = set((terms.get("arms") or {}).values())
    if strange := [arm.name for arm in arms if arm.prompt.hash not in known]:
        yield f"{' and '.join(strange)} asked by another prompt"
    if terms.get("test") != "mcnemar_midp":
        yield f"McNemar's mid-p where {terms.get('test')} by '{terms.get('cluster')}' was registered"
    if terms.get("alpha") != settings.alpha:
        yield f"alpha {settings.alpha} where {terms.get('alpha')} was registered"
