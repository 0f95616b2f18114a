"""`nexa package, train, evaluate, compare, report`: what accepted rows are made into, and its worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.campaigns import carry_out, with_sets
from nexa_core.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--allow-short", is_flag=True, help="Also when fewer rows were accepted than wanted.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where several go.")
@with_sets
@pass_session
def package(
    session: Session, runs: Sequence[str], allow_short: bool, out: Path | None, sets: Sequence[str]
) -> int:
    """Package accepted rows as a dataset.

    Makes no further row. Settings under `package` may change with --set. Without RUN: the latest.
    Several runs become one dataset: equal texts once, every source in the split it had.
    """
    if len(runs) < 2 and out is None:
        run = runs[0] if runs else "latest"
        return carry_out(session, "package_only", run, sets=sets, allow_short=allow_short)
    from nexa_core.actions.merging import package_runs

    made = package_runs(
        runs or ("latest",),
        workspace=session.workspace,
        workspace_plugins=session.workspace_plugins,
        sets=sets,
        out=out,
        allow_short=allow_short,
    )
    output.answer(session.as_json, made, show_dataset)
    return 0


def show_dataset(made: Mapping[str, Any]) -> RenderableType:
    """Where a merged dataset is, and what became of the rows."""
    from nexa_core.cli import look
    from nexa_core.figures import show_count

    rows = [(name.replace("_", " "), show_count(n)) for name, n in made["rows"].items() if n]
    rows += [(f"of it from {one['path']}", show_count(one["rows"])) for one in made["mixed"]]
    return look.stack(
        look.line((str(made["dataset"]), "bold"), f"  from {', '.join(made['runs'])}"),
        look.columns(rows, right=(1,)),
    )


@click.command(cls=Command)
@click.argument("run", default="latest", metavar="[RUN|DATASET]")
@with_sets
@click.option(
    "--model", metavar="MODEL", help="With a DATASET: the student, local/PATH or hf/NAME."
)
@click.option("--method", default="qlora", show_default=True, help="With a DATASET: how.")
@click.option("--out", type=click.Path(path_type=Path), help="With a DATASET: where to.")
@pass_session
def train(
    session: Session,
    run: str,
    sets: Sequence[str],
    model: str | None,
    method: str,
    out: Path | None,
) -> int:
    """Train on a packaged dataset.

    It is a run's, or any folder that `nexa package` wrote. A RUN is packaged
    first where that is not done, and settings under `train` may change with --set. With a DATASET,
    --set gives the method's options. Without either: the latest run.
    """
    from nexa_core.actions.training import is_dataset, train_folder

    if not is_dataset(run):
        return carry_out(session, "train_only", run, sets=sets)
    trained = train_folder(
        run,
        workspace=session.workspace,
        model=model,
        method=method,
        options=sets,
        out=out,
        workspace_plugins=session.workspace_plugins,
        on_event=_tell_progress,
    )
    output.answer(session.as_json, trained, _show_training)
    return 0


def _tell_progress(event: Any) -> None:
    from nexa_core.cli import diagnostics
    from nexa_core.events import TrainingProgressed, WarningRaised
    from nexa_core.figures import show_number

    if isinstance(event, TrainingProgressed):
        metrics = "".join(f" · {name} {show_number(v)}" for name, v in event.metrics.items())
        diagnostics.tell(f"train: step {event.step}/{event.steps}{metrics}")
    elif isinstance(event, WarningRaised):
        diagnostics.warn(event.message)


def _show_training(trained: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_number, show_span

    rows = [
        ("adapter", trained["adapter"]),
        ("loss", show_number(trained["loss"])),
        ("steps", f"{show_count(trained['steps'])} in {show_span(trained['seconds'])}"),
        ("rows", f"{show_count(trained['rows'])}, {show_count(trained['tokens'])} tokens"),
    ]
    return look.columns(rows)


@click.command(cls=Command)
@click.argument("run", default="latest")
@with_sets
@pass_session
def evaluate(session: Session, run: str, sets: Sequence[str]) -> int:
    """Evaluate base against tuned.

    Trains first where that is not done. Settings under `evaluate` may change with --set. Without
    RUN: the latest.
    """
    return carry_out(session, "evaluate_only", run, sets=sets)


@click.command(cls=Command)
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--a-field", metavar="COLUMN", help="The column of A that says whether it was right.")
@click.option(
    "--b-field", metavar="COLUMN", help="The same of B; of the same file when B is not given."
)
@click.option("--on", metavar="COLUMN", help="The column that pairs items; `id` when not given.")
@click.option("--field", metavar="COLUMN", help="For both at once; `correct` when not given.")
@pass_session
def compare(
    session: Session,
    a: Path,
    b: Path | None,
    a_field: str | None,
    b_field: str | None,
    on: str | None,
    field: str | None,
) -> None:
    """Compare two sets of predictions, paired.

    A and B are JSONL or Parquet files with an id and a column that says whether the prediction is
    right. McNemar's test, exact and mid-p, and an interval of the difference B − A.
    """
    from nexa_core.actions.reporting import compare as compare_predictions

    asked = {"a_field": a_field, "b_field": b_field, "on": on, "field": field}
    given = {name: value for name, value in asked.items() if value is not None}
    output.answer(session.as_json, compare_predictions(a, b, **given), show_comparison)


@click.command(cls=Command)
@click.argument("run", default="latest")
@pass_session
def report(session: Session, run: str) -> None:
    """Write a run's report and say where it is.

    One HTML file that opens from disk.
    """
    from nexa_core.actions.reporting import report as write

    output.answer(session.as_json, write(run, session.workspace), lambda made: str(made["report"]))


def show_comparison(result: Mapping[str, Any]) -> RenderableType:
    """The 2 × 2 table of a paired comparison, and what it proves."""
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_share

    b, c, n = result["b"], result["c"], result["n"]
    right_a, right_b = result["a"] + b, result["a"] + c
    rows = [
        (
            "A right",
            f"{show_count(right_a)}/{show_count(n)}",
            show_share(right_a / n) if n else "–",
        ),
        (
            "B right",
            f"{show_count(right_b)}/{show_count(n)}",
            show_share(right_b / n) if n else "–",
        ),
        ("right in A only", show_count(b), ""),
        ("right in B only", show_count(c), ""),
    ]
    interval = f"{100 * result['delta_low']:+.1f} … {100 * result['delta_high']:+.1f}"
    return look.stack(
        look.columns(rows, right=(1, 2)),
        look.blank(),
        look.line("B − A  ", (f"{100 * result['delta']:+.1f} points", "bold"), f"  ({interval})"),
        look.line(f"McNemar  exact p {result['p_exact']:.3g}   mid-p {result['p_midp']:.3g}"),
    )
