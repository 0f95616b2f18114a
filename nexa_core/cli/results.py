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
@click.argument("named", metavar="[RUN|MODEL...]", nargs=-1)
@click.option(
    "--items", metavar="FILE", help="With a MODEL: the questions, a file or a shipped set."
)
@click.option(
    "--scorer",
    metavar="SCORER",
    help="With a MODEL: contains, exact, last_number, or a judge as `{judged: {model: …, rubric: …}}`.",
)
@click.option(
    "--pipeline",
    "file",
    metavar="FILE",
    help="With a MODEL: take roles, budget and `evaluate` from it.",
)
@click.option("--prompt", metavar="NAME", help="With a MODEL: the prompt that puts the question.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="With a MODEL: where to."
)
@with_sets
@pass_session
def evaluate(
    session: Session,
    named: Sequence[str],
    items: str | None,
    scorer: str | None,
    file: str | None,
    prompt: str | None,
    out: Path | None,
    sets: Sequence[str],
) -> int:
    """Evaluate base against tuned, or any models.

    A RUN is trained first where that is not done, and settings under `evaluate` may change with
    --set. A MODEL is a reference, as hf/NAME or openai/NAME, or with --pipeline a role of that file;
    several are asked the same items and compared in pairs. Without either: the latest run.
    """
    if file is None and not any("/" in name for name in named):
        if len(named) > 1:
            raise click.UsageError("Name one RUN, or models as provider/reference.")
        return carry_out(session, "evaluate_only", named[0] if named else "latest", sets=sets)
    if not named:
        raise click.UsageError("Name the models to evaluate, or roles of the pipeline file.")
    from nexa_core.actions.evaluating import Asked, evaluate_models

    found = evaluate_models(
        named,
        Asked(items, scorer, file, prompt, sets, out),
        workspace=session.workspace,
        workspace_plugins=session.workspace_plugins,
        on_event=_tell_progress,
    )
    output.answer(session.as_json, found, show_evaluation)
    return 0


def show_evaluation(found: Mapping[str, Any]) -> RenderableType:
    """What each model got right, and what each comparison proves."""
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_share, show_usd

    arms = [
        (name, f"{show_count(arm['right'])}/{show_count(arm['n'])}", show_share(arm["accuracy"]))
        + ((f"{show_count(arm['unscored'])} unscored",) if arm.get("unscored") else ("",))
        for name, arm in found["arms"].items()
    ]
    pairs = [
        (
            f"{pair['arm_b']} − {pair['arm_a']}",
            f"{100 * pair['delta']:+.1f} points",
            f"{100 * pair['delta_low']:+.1f} … {100 * pair['delta_high']:+.1f}",
            f"mid-p {pair['p_midp']:.3g}",
        )
        for pair in found["comparisons"]
    ]
    head = f"  {show_count(found['n'])} items, scored by {found['scorer']}"
    return look.stack(
        look.line((str(found["items"]), "bold"), head),
        look.blank(),
        look.columns(arms, right=(1, 2)),
        look.columns(pairs, right=(1,)) if pairs else None,
        look.blank(),
        *(look.say(mark, "dim") for mark in found["marks"]),
        look.blank(),
        look.columns([("cost", show_usd(found["cost_usd"])), ("folder", str(found["folder"]))]),
    )


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
