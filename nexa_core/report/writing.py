"""Renders the report's page from what the folder holds, and puts it in place whole."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nexa_core.errors import StoreError
from nexa_core.phrases import tell_retried
from nexa_core.report.estimate import compare_estimate
from nexa_core.report.evaluation import show_evaluation
from nexa_core.report.figures import show_count, show_money, show_seconds, show_time
from nexa_core.report.folder import Facts, read_folder
from nexa_core.report.headline import write_headline
from nexa_core.report.plots import draw_axis, draw_sign
from nexa_core.report.provenance import trace_provenance
from nexa_core.report.samples import choose_samples
from nexa_core.report.timing import count_cost, measure_times
from nexa_core.report.trail import trace_decisions
from nexa_core.report.training import show_training
from nexa_core.report.visible import mark_visible
from nexa_core.report.yields import list_units, trace_yield
from nexa_core.store.files import disk_errors, replace_file
from nexa_core.store.layout import Run
from nexa_core.visible import make_visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_report", "write_report"]

FOLDER = Path(__file__).parent
TEMPLATE, STYLE = "page.html", "page.css"


def write_report(run: Run, reviews_folder: Path) -> Path:
    """Write the run's `report.html`, new where one was, and return its path.

    The page is a function of the run's folder and `reviews_folder` (`reviews/<run>/`): the same
    files give the same bytes. Parts that are absent or damaged are left out and said.

    Raises:
        StoreError: run.json cannot be read, or the page cannot be written.
    """
    page = render_report(read_folder(run, reviews_folder))
    with disk_errors(run.report_path, StoreError):
        replace_file(run.report_path, page.encode())
    return run.report_path


def render_report(facts: Facts) -> str:
    """The page as text. It holds no script, no link to elsewhere, and loads nothing."""
    style = Markup((FOLDER / STYLE).read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return _environment().get_template(TEMPLATE).render(style=style, **_collect(facts))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"marked": mark_visible, "count": show_count, "money": show_money}
    environment.filters |= {"seconds": show_seconds, "time": show_time, "sign": draw_sign}
    return environment


def _collect(facts: Facts) -> dict[str, Any]:
    evaluation, times, cost = show_evaluation(facts), measure_times(facts.events), count_cost(facts)
    return {
        "facts": facts,
        "headline": write_headline(facts, cost, times, evaluation),
        "cost": cost,
        "estimate": compare_estimate(facts, cost),
        "times": times,
        "steps": trace_decisions(facts),
        "falls": trace_yield(facts),
        "retried": tell_retried(facts.totals.rows, facts.retried),
        "units": list_units(facts),
        "trainings": [show_training(training) for training in facts.trainings],
        "evaluation": evaluation,
        "groups": choose_samples(facts),
        "provenance": trace_provenance(facts),
        "check_axis": draw_axis(),
    }


def _show(value: Any) -> Any:
    """What every expression of the page passes through, so that no text hides or turns anything."""
    if value is None:
        return "–"
    return value if isinstance(value, Markup) else make_visible(str(value))
