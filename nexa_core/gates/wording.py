"""Checks in plain words, for reasons, records and screens."""

from __future__ import annotations

from collections.abc import Iterable

from nexa_core.figures import show_percent
from nexa_core.records import GateCheck, Verdict

__all__ = ["describe", "describe_rule", "join"]

_OPS = {"below": "below", "at_least": "at least", "equals": "exactly"}


def describe(check: GateCheck) -> str:
    """One sentence: what the rule wants, what was measured, and how sure that is."""
    wants = describe_rule(check)
    if check.n == 0:
        where = f" ({check.population})" if check.population else ""
        return f"{wants}: no row was measured{where}."
    verb = {Verdict.PASS: "holds", Verdict.FAIL: "does not hold"}.get(check.verdict, "is undecided")
    return f"{wants} {verb}: {_measured(check)}{_sureness(check)}."


def describe_rule(check: GateCheck) -> str:
    """The rule as words: `runaway_rate below 5 %`."""
    if check.aggregate == "difference":
        return f"{check.metric} {_OPS[check.rule]} {100 * check.threshold:.3g} points"
    threshold = (
        show_percent(check.threshold) if check.aggregate == "rate" else f"{check.threshold:g}"
    )
    return f"{check.metric} {_OPS[check.rule]} {threshold}"


def join(sentences: Iterable[str]) -> str:
    """Sentences as one text."""
    return " ".join(sentences)


def _measured(check: GateCheck) -> str:
    if check.aggregate == "rate":
        return f"{check.k:,.0f} of {check.n:,} rows, {show_percent(check.k / check.n)}"
    if check.aggregate == "difference":
        return (
            f"{100 * (check.value or 0.0):+.3g} points, {check.k:,.0f} items won and "
            f"{check.n - check.k:,.0f} lost"
        )
    if check.aggregate == "mean":
        return f"mean {check.value:.4g} over {check.n:,} rows"
    side = {"below": "under", "at_least": "at or over", "equals": "at"}[check.rule]
    return f"median {check.value:g}, {check.k:,.0f} of {check.n:,} rows {side} {check.threshold:g}"


def _sureness(check: GateCheck) -> str:
    if check.basis == "census":
        return " (every row there is)"
    if not check.certified:
        return " (observed, uncertified)"
    if check.lower is None or check.upper is None or check.alpha is None:
        return ""
    if check.aggregate == "difference":
        return (
            f" (between {100 * check.lower:+.3g} and {100 * check.upper:+.3g} points at "
            f"{show_percent(1 - check.alpha)})"
        )
    what = "share" if check.aggregate == "median" else "true rate"
    return (
        f" ({what} between {show_percent(check.lower)} and {show_percent(check.upper)}, "
        f"each bound at {show_percent(1 - check.alpha)})"
    )
