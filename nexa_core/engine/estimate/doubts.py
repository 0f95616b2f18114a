"""What an estimate does not know, and what a run would stumble over, each as a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nexa_core.engine.estimate.lines import Price
from nexa_core.engine.estimate.prompts import Sample, StepCalls
from nexa_core.engine.estimate.rows import PilotRows, ScaleRows
from nexa_core.engine.plan import Plan
from nexa_core.pipeline import EVALUATE
from nexa_core.prices import warn_of_age

__all__ = ["find_doubts"]


def find_doubts(
    plan: Plan,
    sample: Sample,
    steps: Sequence[StepCalls],
    prices: Mapping[str, Price],
    used: Iterable[str],
    pilot: PilotRows | None,
    scale: ScaleRows | None,
) -> list[str]:
    """Unknown and old prices, calls without a bound, rows that do not render, goals out of reach."""
    names = list(dict.fromkeys(used))
    found = [
        f"What '{prices[name].role.model}' costs is unknown: write it into `models.{name}` as "
        "`price: {input: …, output: …}`, dollars per million tokens (0 where it costs nothing)."
        for name in names
        if not prices[name].known
    ]
    found += [
        f"What the fallback '{other.role.model}' of '{name}' costs is unknown, and so is the most."
        for name in names
        for other in prices[name].others
        if not other.known
    ]
    found += warn_of_age({name: prices[name].role for name in names})
    for step in steps:
        if prices[step.role].rates is not None and not _is_bounded(plan, step):
            found.append(f"Step '{step.step}' has no `max_tokens`: its calls have no upper price.")
        if too_long := _describe_excess(step, prices[step.role]):
            found.append(too_long)
        if step.unrendered:
            found.append(
                f"{step.unrendered} of {len(sample.rows)} rows do not render for '{step.step}'."
            )
    if sample.unreadable:
        found.append(f"{sample.unreadable} rows of the source cannot be read.")
    if pilot is not None and pilot.chance is not None and pilot.chance < 0.5:
        found.append(
            f"At the assumed rates an iteration passes with chance {pilot.chance:.2g} only: "
            f"'{pilot.slowest}' is why."
        )
    if scale is not None and scale.short:
        found.append(f"Scale will be short: {scale.short}.")
    return found


def _describe_excess(step: StepCalls, price: Price) -> str | None:
    """What the model cannot take or give, as far as the price book knows; None where all fits."""
    rates = price.rates
    longest = max(step.prompts, default=0) + step.most_answer
    if rates is None:
        return None
    if rates.max_output is not None and step.most_answer > rates.max_output:
        most = f"{rates.max_output:,} tokens"
        return (
            f"Step '{step.step}' asks for answers longer than '{price.role.model}' gives: {most}."
        )
    if rates.context is not None and longest > rates.context:
        held = f"{longest:,} tokens of prompt and answer, and the model holds {rates.context:,}"
        return f"Step '{step.step}' may not fit '{price.role.model}': {held}."
    return None


def _is_bounded(plan: Plan, step: StepCalls) -> bool:
    if step.step == EVALUATE:
        return True
    settings = plan.pipeline.step(step.step)
    if settings.kind != "generate":
        return True
    return plan.pipeline.effective_sampling(settings).get("max_tokens") is not None
