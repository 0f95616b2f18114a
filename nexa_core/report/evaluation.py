"""The evaluation in figures and in plain words: who is right more often, and what that does not mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from nexa_core.report.figures import show_count, show_p, show_points, show_range, show_share
from nexa_core.report.folder import Facts
from nexa_core.report.plots import choose_span, draw_check, draw_difference, draw_difference_axis
from nexa_core.stats import wilson

__all__ = ["Arm", "Comparison", "EvaluationView", "show_evaluation"]

BASE, FEW_SHOT, TUNED = "base", "base-few-shot", "tuned"
ALPHA = 0.05
FORMAT_ONLY = (
    "Learning the format is not learning the facts. The tuned model beats the base model, but not "
    "the same base model with a few examples in its prompt: training may have taught it how an "
    "answer looks, and no more."
)
NOT_ASKED = (
    "The base model was not asked with examples in its prompt (the arm 'base-few-shot'), so this "
    "gain may be the form of an answer and not its facts."
)


@dataclass(frozen=True)
class Arm:
    """An arm's accuracy with its 95 % interval (Wilson)."""

    name: str
    right: int
    n: int
    accuracy: str
    bounds: str
    failed: int
    bar: Markup | None
    unscored: int = 0


@dataclass(frozen=True)
class Comparison:
    """Arm B against arm A over the same items; `b` are right in A only, `c` in B only."""

    arm_a: str
    arm_b: str
    n: int
    both: int
    b: int
    c: int
    neither: int
    delta: float
    low: float
    high: float
    confidence: float
    p_exact: float
    p_midp: float
    alpha: float

    @property
    def better(self) -> bool:
        """Whether B is right more often, beyond chance at `alpha` (two-sided mid-p)."""
        return self.p_midp < self.alpha and self.delta > 0

    @property
    def sentence(self) -> str:
        """What the comparison shows, in plain words."""
        if self.better:
            told = f"'{self.arm_b}' is right more often than '{self.arm_a}'"
        elif self.p_midp < self.alpha:
            told = f"'{self.arm_b}' is right less often than '{self.arm_a}'"
        else:
            told = f"No difference between '{self.arm_a}' and '{self.arm_b}' is shown"
        return (
            f"{told}: {self.points} points ({self.interval}), mid-p {show_p(self.p_midp)}. "
            f"Of {show_count(self.n)} items, {show_count(self.c)} are right with "
            f"'{self.arm_b}' only and {show_count(self.b)} with '{self.arm_a}' only."
        )

    @property
    def points(self) -> str:
        return show_points(self.delta)

    @property
    def interval(self) -> str:
        level = f"{100 * self.confidence:.0f} % interval"
        return f"{level} {self.bounds}"

    @property
    def exact(self) -> str:
        return show_p(self.p_exact)

    @property
    def midp(self) -> str:
        return show_p(self.p_midp)

    @property
    def bounds(self) -> str:
        return f"{show_points(self.low)} to {show_points(self.high)}"

    def draw(self, span: float) -> Markup:
        """The difference and its interval against zero, on an axis from -span to span."""
        label = f"'{self.arm_b}' against '{self.arm_a}'"
        return draw_difference(label, self.delta, self.low, self.high, span)


@dataclass(frozen=True)
class EvaluationView:
    """An evaluation, ready to be shown; `warning` is what a reader must not conclude.

    `notes` are what the evaluation itself warned of.
    """

    items: str
    n: int
    scorer: str
    item_hash: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    warning: str
    notes: tuple[str, ...] = ()

    @property
    def span(self) -> float:
        """Half the width of the axis that all differences share."""
        return choose_span(bound for c in self.comparisons for bound in (c.low, c.high))

    @property
    def axis(self) -> Markup:
        return draw_difference_axis(self.span)

    def find(self, arm_a: str, arm_b: str) -> Comparison | None:
        """The comparison of these two arms, where it was made."""
        pairs = {(c.arm_a, c.arm_b): c for c in self.comparisons}
        return pairs.get((arm_a, arm_b))

    def accuracy(self, arm: str) -> str | None:
        """An arm's accuracy as shown, None where it was not run."""
        return next((a.accuracy for a in self.arms if a.name == arm), None)


def show_evaluation(facts: Facts) -> EvaluationView | None:
    """The run's evaluation, None where there is none."""
    found = facts.comparison
    if found is None:
        return None
    settings = facts.record.get("pipeline", {}).get("evaluate") or {}
    alpha = float(settings.get("alpha") or ALPHA)
    arms = tuple(_show_arm(name, arm) for name, arm in (found.get("arms") or {}).items())
    compared = tuple(_read_comparison(c, alpha) for c in found.get("comparisons") or ())
    view = EvaluationView(
        items=str(found.get("items", "")),
        n=int(found.get("n", 0)),
        scorer=str(found.get("scorer", "")),
        item_hash=str(found.get("item_hash", "")),
        arms=arms,
        comparisons=compared,
        warning="",
        notes=tuple(map(str, found.get("warnings") or ())),
    )
    return _warn(view)


def _warn(view: EvaluationView) -> EvaluationView:
    gain, learned = view.find(BASE, TUNED), view.find(FEW_SHOT, TUNED)
    if gain is None or not gain.better:
        return view
    if learned is None:
        return replace(view, warning=NOT_ASKED)
    return view if learned.better else replace(view, warning=FORMAT_ONLY)


def _show_arm(name: str, arm: Mapping[str, Any]) -> Arm:
    right, n = int(arm.get("right") or 0), int(arm.get("n") or 0)
    low, high = wilson(right, n)
    rate = right / n if n else None
    told = f"{name}: {right} of {n} right"
    bar = draw_check(told, "NONE", (0.0, 0.0), None, rate, (low, high)) if n else None
    bounds = show_range(low, high) if n else ""
    failed, unscored = (int(arm.get(key) or 0) for key in ("failed", "unscored"))
    return Arm(name, right, n, show_share(rate), bounds, failed, bar, unscored)


def _read_comparison(found: Mapping[str, Any], alpha: float) -> Comparison:
    return Comparison(
        arm_a=str(found.get("arm_a")),
        arm_b=str(found.get("arm_b")),
        n=int(found["n"]),
        both=int(found["a"]),
        b=int(found["b"]),
        c=int(found["c"]),
        neither=int(found["d"]),
        delta=float(found["delta"]),
        low=float(found["delta_low"]),
        high=float(found["delta_high"]),
        confidence=float(found.get("confidence", 0.95)),
        p_exact=float(found["p_exact"]),
        p_midp=float(found["p_midp"]),
        alpha=alpha,
    )
