"""Columns that options name: found among those a row has by then, before anything is paid for.

An option says that it names columns by `json_schema_extra={"column": True}` on its field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexa_core.engine.plan import Plan
from nexa_core.engine.sources import OWN_COLUMNS
from nexa_core.errors import Place, PreflightError, suggest
from nexa_core.pipeline import CheckStep, GenerateStep, JudgeStep
from nexa_core.specs import Spec

__all__ = ["check_columns", "name_columns"]

_ENDINGS = ("_raw_text", "_finish_reason", "_tokens", "_reasoning", "_tool_calls")
"""Columns that a model may leave out: who reads one by its usual name does without."""


def check_columns(plan: Plan) -> None:
    """Refuse a check, judge or metric that reads a column which no source row and no earlier step has."""
    known = {*plan.source_columns, "id", *OWN_COLUMNS}
    for step in plan.pipeline.steps:
        if isinstance(step, CheckStep):
            for use in step.checks:
                asker, place = f"The check '{use.id}'", plan.pipeline.place(use.id)
                _require(asker, plan.check_spec(use), use.options, known, place)
        elif isinstance(step, GenerateStep):
            known |= {*step.vary, step.into, *(f"{step.into}{ending}" for ending in _ENDINGS)}
        elif isinstance(step, JudgeStep):
            place = plan.pipeline.place(f"{step.id}.method") or plan.pipeline.place(step.id)
            judge = plan.plugins.judges.get(step.method, place)
            _require(f"The judge '{step.id}'", judge, step.options, known, place)
            known |= {f"{step.id}_reason", f"{step.id}_criteria"}
    for rule in (*plan.gate.hard, *plan.gate.soft) if plan.gate else ():
        metric = plan.plugins.metrics.get(rule.metric, rule.place)
        _require(f"The metric '{rule.metric}'", metric, rule.options, known, rule.place)


def _require(
    asker: str, spec: Spec, options: Mapping[str, Any], known: set[str], place: Place | None
) -> None:
    for option, name in name_columns(spec, options):
        if name in known or name.endswith(_ENDINGS):
            continue
        there = sorted(known - {"id", *OWN_COLUMNS})
        near = suggest(name, there)
        raise PreflightError(
            f"{asker} reads the column '{name}' (`{option}`). Columns there are by then: "
            f"{', '.join(there) or 'none'}.",
            f"Did you mean '{near}'?" if near else "Rename a source column with source.map.",
            place,
        )


def name_columns(spec: Spec, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every column that the options name, with the option that does."""
    fields = spec.options().model_fields if spec.options else {}
    for option, field in fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("column"):
            given = options.get(field.alias or option)
            named = given.values() if isinstance(given, Mapping) else given
            for name in [named] if isinstance(named, str) else named or ():
                yield field.alias or option, str(name)
