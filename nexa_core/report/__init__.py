"""The report of a run: one HTML file that opens from disk, derived from the run's folder alone."""

from __future__ import annotations

from nexa_core.report.folder import THRESHOLDS
from nexa_core.report.writing import write_report

__all__ = ["THRESHOLDS", "write_report"]
