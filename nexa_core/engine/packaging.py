"""Packages the accepted rows of committed shards as a training dataset; reads shard by shard."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa_core.engine.candidates import NOT_CHOSEN
from nexa_core.engine.context import Context
from nexa_core.engine.dataset_card import write_card
from nexa_core.engine.dataset_files import JsonLines, SplitFiles, hash_files, replace_folder
from nexa_core.engine.dataset_rows import (
    EVALUATION_MATCH,
    KEPT_COLUMNS,
    Packaging,
    RowSorter,
    find_cutoff,
    read_rows,
)
from nexa_core.engine.items import bind_items
from nexa_core.engine.plan import PROMPT_COLUMNS, Plan
from nexa_core.engine.unit import Unit
from nexa_core.errors import ManifestError, UsageError
from nexa_core.pipeline import CriticStep, JudgeStep, Package
from nexa_core.records import State, content_hash
from nexa_core.reviews import read_reviews
from nexa_core.templates import TemplateError, Text

__all__ = [
    "Origin",
    "PackageResult",
    "Packaging",
    "check_packaging",
    "package",
    "package_run",
    "read_manifest",
]


@dataclass(frozen=True)
class Origin:
    """Where the rows come from, as card and manifest say it.

    `decision` and `checks` are the gate's last word; `marks` say what a reader must not miss, such
    as `rehearsal` or `override: …`; `review_head` is the hash of the newest review record.
    """

    runs: tuple[str, ...]
    name: str
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    pipeline_hash: str = ""
    decision: str | None = None
    checks: tuple[Mapping[str, Any], ...] = ()
    review_head: str | None = None
    marks: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class PackageResult:
    """A packaged dataset; `fresh` is False when it was there already and was left as it is."""

    folder: Path
    manifest: Mapping[str, Any]
    fresh: bool = True

    def as_json(self) -> dict[str, Any]:
        """The dataset as `--json` prints it."""
        return {"dataset": str(self.folder), "rows": self.manifest["rows"], "fresh": self.fresh}


def package(
    shards: Sequence[Path], out: Path, packaging: Packaging, origin: Origin
) -> PackageResult:
    """Write the dataset of these shards (in this order) to `out`, whole or not at all.

    A dataset that was packaged from the same rows in the same way is left as it is.

    Raises:
        UsageError: No row could be packaged, or a column that is asked for does not exist.
        ManifestError: A shard cannot be read, or two disagree about a column's type.
    """
    schema = _unify_schemas(shards)
    _require_columns(schema.names, packaging)
    inputs = _hash_inputs(shards, packaging, origin)
    if (found := read_manifest(out)) is not None and found.get("inputs") == inputs:
        return PackageResult(out, found, fresh=False)
    cutoff = find_cutoff(shards, packaging)
    with replace_folder(out) as folder:
        rows, reasons, columns = _write_rows(folder, shards, schema, packaging, cutoff)
        _require_rows(rows, reasons, shards)
        manifest = {
            "version": 1,
            "runs": list(origin.runs),
            "name": origin.name,
            **packaging.as_json(),
            "rows": rows,
            "reasons": reasons,
            "columns": columns,
            "command": origin.command,
            "pipeline_hash": origin.pipeline_hash,
            "decision": origin.decision,
            "review_head": origin.review_head,
            "marks": list(origin.marks),
            "inputs": inputs,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        write_card(folder / "README.md", manifest, origin.pipeline, origin.checks)
        manifest["files"] = hash_files(folder)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return PackageResult(out, manifest)


def read_manifest(dataset: Path) -> dict[str, Any] | None:
    """The manifest of a packaged dataset, None where there is none.

    Raises:
        ManifestError: It cannot be read.
    """
    path = dataset / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise ManifestError(
            f"The manifest '{path}' is no JSON: {cause}.", "Delete the dataset and package again."
        ) from cause
    return manifest


def _hash_inputs(shards: Sequence[Path], packaging: Packaging, origin: Origin) -> str:
    files = []
    for path in shards:
        with path.open("rb") as file:
            files.append(hashlib.file_digest(file, "sha256").hexdigest())
    return content_hash([files, packaging.as_json(), origin.marks, origin.review_head], 32)


def _unify_schemas(shards: Sequence[Path]) -> pa.Schema:
    if not shards:
        raise UsageError(
            "There is nothing to package: no shard is committed.", "Run the pipeline first."
        )
    schemas = []
    for path in shards:
        try:
            schemas.append(pq.read_schema(path).remove_metadata())
        except (pa.ArrowInvalid, OSError) as cause:
            raise ManifestError(
                f"The shard '{path}' cannot be read: {cause}.", "`nexa resume` makes it again."
            ) from cause
    stated = pa.schema([("state", pa.string()), ("reason", pa.string())])
    try:
        return pa.unify_schemas([*schemas, stated], promote_options="permissive")
    except pa.ArrowException as cause:
        raise ManifestError(
            f"The shards disagree about the type of a column: {cause}.",
            "Package the runs one by one.",
        ) from cause


def _require_columns(columns: Sequence[str], packaging: Packaging) -> None:
    for key in ("prompt", "completion"):
        name = getattr(packaging, key)
        if name not in columns:
            shown = ", ".join(n for n in columns if n not in KEPT_COLUMNS)
            raise UsageError(
                f"The rows have no column '{name}' to take the {key} from. They have: {shown}.",
                f"Name one with --set package.{key}=COLUMN.",
            )


def _write_rows(
    folder: Path,
    shards: Sequence[Path],
    schema: pa.Schema,
    packaging: Packaging,
    cutoff: float,
) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Write every split; the rows of each, the reasons of what was left out, the columns."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    columns: list[str] = []
    sorter = RowSorter(packaging, cutoff)
    with (
        SplitFiles(folder / "data", "train") as train,
        SplitFiles(folder / "data", "validation") as validation,
        SplitFiles(folder / "rejected", "rejected") as left_out,
        JsonLines(folder / "train.jsonl") as lines,
    ):
        whole = packaging.choosing is not None
        for table in (t for path in shards for t in read_rows(path, schema, schema.names, whole)):
            parts = sorter.sort(table)
            train.write(parts.train)
            validation.write(parts.validation)
            left_out.write(parts.left_out)
            lines.write(parts.train.drop_columns(_untrained(parts.train)))
            states.update(parts.left_out["state"].to_pylist())
            reasons.update(_heads(parts.left_out["reason"]))
            columns = parts.train.column_names
    matches = reasons[EVALUATION_MATCH]
    unchosen = sum(reasons[reason] for reason in NOT_CHOSEN)
    rows = {
        "train": train.rows,
        "validation": validation.rows,
        "rejected": states[State.REJECTED],
        "failed": states[State.FAILED],
        "surplus": states[State.SURPLUS],
        "dropped_eval_matches": matches,
        "dropped_incomplete": states[State.ACCEPTED] - matches - unchosen,
        "dropped_unchosen": unchosen,
    }
    return rows, dict(reasons.most_common()), columns


def _untrained(table: pa.Table) -> list[str]:
    return [name for name in KEPT_COLUMNS if name != "id" and name in table.column_names]


def _heads(reasons: Any) -> Iterator[str]:
    """Reasons without what follows the first colon, so that they can be counted."""
    for reason in reasons.to_pylist():
        if reason is not None:
            yield reason.partition(": ")[0]


def _require_rows(
    rows: Mapping[str, int], reasons: Mapping[str, int], shards: Sequence[Path]
) -> None:
    if rows["train"]:
        return
    why = ", ".join(f"{number} {reason}" for reason, number in list(reasons.items())[:5])
    raise UsageError(
        f"No row can be packaged: none of the rows in {len(shards)} shards is left to train on"
        + (f" ({why})." if why else "."),
        "Accept more rows (`nexa accept RUN --set …`) or run the pipeline again.",
    )


def package_run(context: Context, units: Sequence[Unit]) -> dict[str, Any]:
    """Package the accepted rows of a run's units, in order, into the run's `dataset/`.

    Raises: as `package`.
    """
    shards = [
        unit.folder.shards / f"{entry.shard:05d}.parquet"
        for unit in units
        for entry in unit.entries
    ]
    plan, run = context.plan, context.run
    result = package(
        shards,
        run.dataset,
        _bind_packaging(plan, _unify_schemas(shards).names),
        _trace(context, units),
    )
    manifest = result.manifest
    return {"dataset": str(run.dataset), "packaged": manifest["rows"], "marks": manifest["marks"]}


def check_packaging(plan: Plan) -> Packaging | None:
    """Refuse, before anything is paid for, what the pipeline's `package` section cannot do.

    Raises:
        UsageError: The format, a column, the template or the evaluation items do not fit.
    """
    if plan.pipeline.package is None:
        return None
    made = {step.into for step in plan.pipeline.generate_steps}
    varied = {name for step in plan.pipeline.generate_steps for name in step.vary}
    columns = (*plan.source_columns, *sorted(made | varied))
    packaging = _bind_packaging(plan, columns)
    _require_columns(columns, packaging)
    _require_ranking(plan, packaging)
    try:
        unknown = Text(packaging.template).variables - {*columns, *KEPT_COLUMNS, "prompt"}
    except TemplateError as cause:
        unknown = frozenset({str(cause)})
    if unknown:
        raise UsageError(
            f"The template '{packaging.template}' makes no prompt: {min(unknown)!r}.",
            f"It may insert `prompt` and: {', '.join(columns)}.",
            plan.pipeline.place("package.template"),
        )
    return packaging


def _bind_packaging(plan: Plan, columns: Sequence[str]) -> Packaging:
    """The pipeline's `package` section with everything it leaves open found."""
    pipeline = plan.pipeline
    settings = pipeline.package or Package()
    place = pipeline.place("package.format") if pipeline.package else None
    spec = plan.plugins.exporters.get(settings.format, place)
    exporter = plan.plugins.build(spec, settings.options, place=pipeline.locate("package"))
    items = bind_items(plan)
    return Packaging(
        exporter=exporter,
        format=settings.format,
        prompt=settings.prompt or next((n for n in PROMPT_COLUMNS if n in columns), "prompt"),
        completion=settings.completion or pipeline.answer_field(columns) or "response",
        template=exporter.template if settings.template is None else settings.template,
        validation=settings.validation,
        seed=pipeline.seed,
        evaluation=items.texts if items else frozenset(),
        evaluation_name=items.name if items else None,
        best=bool(settings.best),
        rank=settings.rank or _ranking(plan),
        options=settings.options,
    )


def _ranking(plan: Plan) -> tuple[str, ...]:
    """The scores of every judge and critic, by which answers are ranked."""
    steps = plan.pipeline.steps
    return tuple(step.id for step in steps if isinstance(step, JudgeStep | CriticStep))


def _require_ranking(plan: Plan, packaging: Packaging) -> None:
    """Refuse to choose among answers that nothing ranks."""
    if packaging.choosing is None:
        return
    unknown = sorted(set(packaging.rank) - set(plan.score_ids))
    if packaging.rank and not unknown:
        return
    what = f"no score is called '{unknown[0]}'" if unknown else "no judge or critic scores them"
    known = ", ".join(plan.score_ids)
    raise UsageError(
        f"The best of several answers cannot be chosen: {what}.",
        f"Set package.rank: [{known}]." if known else "Add a judge step.",
        plan.pipeline.place("package.rank" if unknown else "package"),
    )


def _trace(context: Context, units: Sequence[Unit]) -> Origin:
    """Where a run's rows come from: its pipeline, the gate's last record, what marks the run."""
    record, reviews = context.run.record, read_reviews(context.reviews)
    last = reviews[-1] if reviews else None
    return Origin(
        runs=(context.run.id,),
        name=str(record["name"]),
        pipeline=record["pipeline"],
        pipeline_hash=context.run.pipeline_hash,
        decision=last.decision if last else None,
        checks=tuple(last.checks) if last else (),
        review_head=last.hash if last else None,
        marks=tuple(_mark_run(context, units)),
        command=f"nexa package {context.run.id}",
    )


def _mark_run(context: Context, units: Sequence[Unit]) -> Iterator[str]:
    if context.run.record.get("rehearsal"):
        yield "rehearsal"
    scale = context.plan.pipeline.scale
    accepted = sum(unit.count(State.ACCEPTED) for unit in units)
    if scale is not None and scale.accepted is not None and accepted < scale.accepted:
        yield f"short: {accepted} of {scale.accepted} rows accepted"
