"""What a run will ask, take and cost, before it asks anything: expected, and at most."""

from __future__ import annotations

from nexa_core.engine.estimate.assumptions import Assumptions, read_assumptions
from nexa_core.engine.estimate.bill import estimate_plan
from nexa_core.engine.estimate.measured import measure_run

__all__ = ["Assumptions", "estimate_plan", "measure_run", "read_assumptions"]
