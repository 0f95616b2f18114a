"""What a campaign that ends without a pass has learned: every setting it tried, and what that gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core.figures import show_percent
from nexa_core.records import Evidence, GateCheck

__all__ = ["tell_learned"]


def tell_learned(evidence: Evidence) -> str:
    """For each rule that does not pass, its value at every setting tried; "" after one iteration."""
    tried = [_describe(past["parameters"], past["checks"]) for past in evidence.history]
    if not tried:
        return ""
    tried.append((evidence.parameters, {check.metric: check.value for check in evidence.checks}))
    moved = [
        path for path in evidence.parameters if len({repr(at.get(path)) for at, _ in tried}) > 1
    ]
    told = [
        f"{check.metric} was "
        + "; ".join(
            f"{_show(values.get(check.metric), check)} {_at(at, moved)}" for at, values in tried
        )
        for check in evidence.failing
    ]
    return f"What was learned: {'. '.join(told)}." if told else ""


def _describe(
    parameters: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    return parameters, {check["metric"]: check["value"] for check in checks}


def _at(parameters: Mapping[str, Any], moved: Sequence[str]) -> str:
    """The parameters that were ever moved, at their values then."""
    return (
        f"at {', '.join(f'{path} {parameters.get(path)}' for path in moved)}" if moved else "again"
    )


def _show(value: Any, check: GateCheck) -> str:
    if not isinstance(value, int | float):
        return "unmeasured"
    return show_percent(value) if check.aggregate == "rate" else f"{value:g}"
