"""The evidence as a model is shown it: in an order of its own for every vote, rows marked as data."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from nexa_core import Evidence, GateCheck, explain_marks, mark_data

__all__ = ["show_evidence"]

_HIDDEN = {"source_id", "sample", "attempt", "parent_id", "provenance"}
_LONGEST = 1_500


def show_evidence(evidence: Evidence, nonce: str, vote: int) -> dict[str, Any]:
    """What the prompt inserts; the order of checks, parameters and rows follows from nonce and vote."""
    order = random.Random(f"{nonce}/{vote}")

    def shuffle(items: Sequence[Any]) -> list[Any]:
        return order.sample(list(items), len(items))

    return {
        "failed": bool(evidence.failing),
        "iteration": evidence.iteration,
        "max_iterations": evidence.max_iterations,
        "checks": "\n".join(_show_check(check) for check in shuffle(evidence.checks)),
        "parameters": "\n".join(
            _show_parameter(path, evidence) for path in shuffle(sorted(evidence.search_space))
        )
        or "Nothing may change.",
        "history": "\n".join(_show_past(past) for past in evidence.history),
        "track": "\n".join(_show_track(one) for one in evidence.track),
        "samples": "\n".join(_show_row(row, nonce) for row in shuffle(evidence.samples)) or "None.",
        "rule": explain_marks(nonce),
        "ids": ", ".join(shuffle(sorted(evidence.ids))),
    }


def _show_check(check: GateCheck) -> str:
    soft = "" if check.hard else " (reported only)"
    wanted = f"{check.rule.replace('_', ' ')} {check.threshold:g}"
    sure = ""
    if check.lower is not None and check.upper is not None and check.basis != "census":
        sure = f", bounds {check.lower:.3g} to {check.upper:.3g}"
    where = f"; over {check.population}" if check.population else ""
    found = f"{_number(check.value)} ({check.k:g} of {check.n} rows{sure})"
    return f"[{check.metric}] {check.verdict}{soft}: wanted {wanted}, found {found}{where}"


def _show_parameter(path: str, evidence: Evidence) -> str:
    space = evidence.search_space[path]
    allowed = (
        f"one of {', '.join(map(str, space['choices']))}"
        if "choices" in space
        else f"{space['min']:g} to {space['max']:g}"
    )
    return f"{path} = {evidence.parameters.get(path)}, may be {allowed}"


def _show_past(past: Mapping[str, Any]) -> str:
    at = ", ".join(f"{path} = {value}" for path, value in past.get("parameters", {}).items())
    found = ", ".join(
        f"{check['metric']} {check['verdict']} at {_number(check['value'])}"
        for check in past.get("checks", ())
    )
    return f"Iteration {past.get('iteration')}: {at}: {found}."


def _show_track(one: Mapping[str, Any]) -> str:
    return (
        f"Iteration {one['iteration']}, {one['reviewer']}: {one['metric']} went from "
        f"{_number(one['before'])} to {_number(one['after'])}: {one['moved']}."
    )


def _show_row(row: Mapping[str, Any], nonce: str) -> str:
    """A row between marks; its id outside them is cleaned of what could pass for a line."""
    shown = {k: _cut(v) for k, v in row.items() if k not in _HIDDEN and v is not None}
    text = json.dumps(shown, ensure_ascii=False, default=str)
    return f"[{' '.join(str(row.get('id', '?')).split())[:80]}]\n{mark_data(text, nonce)}"


def _cut(value: Any) -> Any:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "unmeasured"
