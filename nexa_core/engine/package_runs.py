"""Packages runs: one as its campaign goes on, or several as one dataset that names every run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa_core.engine.binding import HELD_PATH
from nexa_core.engine.context import Context
from nexa_core.engine.dataset_rows import Packaging, accepted_sources, find_cutoff
from nexa_core.engine.package_settings import bind_packaging
from nexa_core.engine.packaging import Origin, PackageResult, Part, package_parts, unify_schemas
from nexa_core.engine.packaging import read_manifest as read_dataset
from nexa_core.engine.plan import Plan
from nexa_core.engine.splitting import Split
from nexa_core.errors import UsageError
from nexa_core.pipeline import CheckStep, CriticStep, JudgeStep, roles_of
from nexa_core.prices import Rates, rates_of
from nexa_core.records import State
from nexa_core.reviews import describe_overrides, read_reviews
from nexa_core.store.labels import CALIBRATION, identify_judge
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import Totals, count_retried, read_manifest, total_entries
from nexa_core.store.money import read_spent

__all__ = ["RunRows", "merge_runs", "package_run"]


@dataclass(frozen=True)
class RunRows:
    """A run's rows for a dataset: its plan, its units in order, where its reviews lie."""

    run: Run
    plan: Plan
    folders: tuple[ShardFolder, ...]
    reviews: Path

    @property
    def shards(self) -> tuple[Path, ...]:
        """The files of every committed shard."""
        return tuple(
            folder.shards / f"{entry.shard:05d}.parquet"
            for folder in self.folders
            for entry in read_manifest(folder.path)
        )

    @property
    def totals(self) -> Totals:
        """The sums over these rows."""
        return total_entries(e for folder in self.folders for e in read_manifest(folder.path))

    @property
    def decision(self) -> str | None:
        """The gate's last word, None where there was none."""
        reviews = read_reviews(self.reviews, "pilot")
        return reviews[-1].decision if reviews else None

    @property
    def checks(self) -> list[Mapping[str, Any]]:
        """What the gate's last word rests on."""
        reviews = read_reviews(self.reviews, "pilot")
        return list(reviews[-1].checks) if reviews else []

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The values that the gate's patches left for these rows, by dotted path."""
        paths = [folder.parameters_path for folder in self.folders]
        found = [json.loads(path.read_bytes()) for path in paths if path.is_file()]
        return found[-1]["parameters"] if found else {}

    @property
    def review_head(self) -> str | None:
        """The hash of the last decision before there was a dataset; training and evaluation come after."""
        before = ("pilot", "scale", "package")
        decided = [r for r in read_reviews(self.reviews) if r.phase in before]
        return decided[-1].hash if decided else None

    @property
    def marks(self) -> Iterator[str]:
        """What a reader must not miss about the run."""
        if self.run.record.get("rehearsal"):
            yield "rehearsal"
        scale, accepted = self.plan.pipeline.scale, self.totals.rows.get(State.ACCEPTED, 0)
        if scale is not None and scale.accepted is not None and accepted < scale.accepted:
            yield f"short: {accepted} of {scale.accepted} rows accepted"
        yield from describe_overrides(read_reviews(self.reviews))


def package_run(context: Context, units: Sequence[Any]) -> dict[str, Any]:
    """Package the accepted rows of a run's units, in order, into the run's `dataset/`.

    Raises: as `package`.
    """
    run = context.run
    rows = RunRows(run, context.plan, tuple(unit.folder for unit in units), context.reviews)
    result = merge_runs([rows], run.dataset)
    manifest = result.manifest
    return {"dataset": str(run.dataset), "packaged": manifest["rows"], "marks": manifest["marks"]}


def merge_runs(runs: Sequence[RunRows], out: Path, settings: str = "") -> PackageResult:
    """Package the accepted rows of runs as one dataset, as the first one's pipeline says.

    Equal texts are kept once, every source stays in the split in which its run's dataset has it
    (the first run's, where two disagree), and no row asks what any run's evaluation items ask.
    `settings` is what the command line said beside the runs, for the line that packages again.

    Raises:
        UsageError: Rehearsals and real runs are named together; else as `package`.
    """
    _refuse_rehearsals(runs)
    packagings = [bind_packaging(one.plan, unify_schemas(one.shards).names) for one in runs]
    if len(runs) == 1:
        parts = [Part(runs[0].shards, packagings[0])]
    else:
        unified = [_follow(first=packagings[0], own=each, all_=packagings) for each in packagings]
        parts = [
            Part(one.shards, packaging, _split(one, own))
            for one, packaging, own in zip(runs, unified, packagings, strict=True)
        ]
    return package_parts(parts, out, _trace(runs, settings))


def _refuse_rehearsals(runs: Sequence[RunRows]) -> None:
    rehearsed = [one.run.id for one in runs if one.run.record.get("rehearsal")]
    if rehearsed and len(rehearsed) < len(runs):
        raise UsageError(
            f"Run '{rehearsed[0]}' is a rehearsal: its rows never go among real ones.",
            "Name real runs only.",
        )


def _follow(first: Packaging, own: Packaging, all_: Sequence[Packaging]) -> Packaging:
    """The first run's settings over another run's columns and ranks."""
    names = sorted({each.evaluation_name for each in all_ if each.evaluation_name})
    return replace(
        first,
        prompt=own.prompt,
        completion=own.completion,
        rank=own.rank,
        most=own.most,
        evaluation=frozenset().union(*(each.evaluation for each in all_)),
        evaluation_name=", ".join(names) or None,
    )


def _split(rows: RunRows, own: Packaging) -> Split:
    """The split of the run's own dataset, or that which its pipeline would make."""
    made = read_dataset(rows.run.dataset)
    if made is not None:
        own = replace(own, validation=made["validation"], seed=made["seed"])
    sources = accepted_sources(rows.shards, own)
    return Split.over(own.seed, find_cutoff(rows.shards, own), sources)


def _trace(runs: Sequence[RunRows], settings: str) -> Origin:
    """Where the rows come from, and what each run brought."""
    first = runs[0]
    several = len(runs) > 1
    marks = [
        f"{mark} (run {one.run.id})" if several and mark != "rehearsal" else mark
        for one in runs
        for mark in one.marks
    ]
    return Origin(
        runs=tuple(one.run.id for one in runs),
        name=str(first.run.record["name"]),
        pipeline_hash=first.run.pipeline_hash,
        decision=first.decision,
        review_head=first.review_head,
        marks=tuple(dict.fromkeys(marks)),
        command=f"nexa package {' '.join(one.run.id for one in runs)} {settings}".strip(),
        parts=tuple(describe_part(one) for one in runs),
    )


def describe_part(rows: RunRows) -> dict[str, Any]:
    """What one run brought, as manifest and card say it; money in nano-dollars, by role.

    The money is the whole run's: failed pilots, judges and evaluation too.
    """
    record, totals, spent = rows.run.record, rows.totals, read_spent(rows.run)
    source, settings = record.get("source"), rows.plan.pipeline.source
    if (
        source and source["path"] == HELD_PATH
    ):  # not the pipeline's own source, and of no known licence
        settings = None
    return {
        "run": rows.run.id,
        "name": record["name"],
        "pipeline_hash": rows.run.pipeline_hash,
        "decision": rows.decision,
        "review_head": rows.review_head,
        "checks": rows.checks,
        "rows": totals.rows,
        "retried": count_retried(totals, record["pipeline"]),
        "reasons": dict(sorted(totals.reasons.items(), key=lambda pair: -pair[1])),
        "calls": totals.calls,
        "cost_nano": dict(+spent.settled),
        "at_risk_nano": dict(+spent.at_risk),
        "source": {**source, "licence": settings.licence if settings else None} if source else None,
        "accept": record["pipeline"].get("accept"),
        "steps": list(_describe_steps(rows)),
        "models": {name: _describe_role(role) for name, role in rows.plan.pipeline.models.items()},
        "judges": list(_describe_judges(rows)),
    }


def _describe_steps(rows: RunRows) -> Iterator[Mapping[str, Any]]:
    """The steps that asked models, as they stood when the rows were made: after the gate's last patch."""
    pipeline = rows.plan.pipeline.with_values(rows.parameters)
    for step in pipeline.steps:
        roles = roles_of(step)
        if roles and not isinstance(step, CheckStep):
            named = step.rubric if isinstance(step, JudgeStep) else step.prompt
            yield {
                "step": step.id,
                "kind": step.kind,
                "models": [pipeline.models[role].model for role in roles],
                "prompt": named if isinstance(named, str) else None,
                "sampling": pipeline.effective_sampling(step),
            }


def _describe_role(role: Any) -> dict[str, Any]:
    rates: Rates | None = rates_of(role)
    return {
        "model": role.model,
        "sampling": role.sampling.as_dict(),
        "usd_per_million": {"input": rates.input / 1e9, "output": rates.output / 1e9}
        if rates
        else None,
        "priced_on": rates.date if rates else None,
    }


def _describe_judges(rows: RunRows) -> Iterator[Mapping[str, Any]]:
    record, pipeline = rows.run.record, rows.plan.pipeline
    path = rows.reviews.parent / CALIBRATION
    known = json.loads(path.read_bytes()) if path.exists() else {}
    for step in pipeline.steps:
        if not isinstance(step, JudgeStep | CriticStep):
            continue
        roles = step.roles if isinstance(step, JudgeStep) else (step.model,)
        stored = record["prompts"].get(step.id) or {}
        judge = next((s["judge"] for s in record["pipeline"]["steps"] if _has(s, step.id)), None)
        found = known.get(identify_judge(record, judge)) if judge else None
        yield {
            "id": step.id,
            "kind": step.kind,
            "models": [pipeline.models[role].model for role in roles],
            "rubric": stored.get("name"),
            "rubric_hash": stored.get("hash"),
            "calibration": found,
        }


def _has(step: Mapping[str, Any], step_id: str) -> bool:
    return "judge" in step and step["judge"].get("id") == step_id
