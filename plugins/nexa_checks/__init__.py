"""Deterministic checks over rows and the metrics that gates read, vectorised over Arrow."""

from __future__ import annotations

from collections.abc import Iterable

from nexa_core import CheckSpec, MetricSpec, hookimpl


@hookimpl
def register_checks() -> Iterable[CheckSpec]:
    """Checks that need no model and know no language but where they say so."""
    from nexa_checks.catalog import CHECKS

    return CHECKS


@hookimpl
def register_metrics() -> Iterable[MetricSpec]:
    """Metrics over the row table: text, tokens, states, scores and flags."""
    from nexa_checks.catalog import METRICS

    return METRICS
