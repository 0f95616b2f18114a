"""Packages the accepted rows of committed shards as a training dataset; reads shard by shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa_core.engine.dataset_card import write_card
from nexa_core.engine.dataset_files import hash_files, replace_folder
from nexa_core.engine.dataset_rows import Packaging, RowSorter, find_cutoff, read_shards
from nexa_core.engine.dataset_writing import DatasetWriter
from nexa_core.engine.package_settings import require_columns
from nexa_core.engine.sources import OWN_COLUMNS
from nexa_core.engine.splitting import Split, Splits
from nexa_core.errors import ManifestError, UsageError
from nexa_core.records import content_hash

__all__ = [
    "Origin",
    "PackageResult",
    "Packaging",
    "Part",
    "package",
    "package_parts",
    "read_manifest",
    "unify_schemas",
]


@dataclass(frozen=True)
class Origin:
    """Where the rows come from, as card and manifest say it.

    `decision` is the first run's gate's last word; `marks` say what a reader must not miss, such
    as `rehearsal` or `override: …`; `review_head` is the hash of the newest review record.
    """

    runs: tuple[str, ...]
    name: str
    pipeline_hash: str = ""
    decision: str | None = None
    review_head: str | None = None
    marks: tuple[str, ...] = ()
    command: str = ""
    parts: tuple[Mapping[str, Any], ...] = ()
    """What each run brought: see `describe_run` of `package_runs`."""


@dataclass(frozen=True)
class Part:
    """The shards of one run, in order, how its rows are packaged, and the split its sources had."""

    shards: tuple[Path, ...]
    packaging: Packaging
    split: Split | None = None


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
    return package_parts([Part(tuple(shards), packaging)], out, origin)


def package_parts(parts: Sequence[Part], out: Path, origin: Origin) -> PackageResult:
    """`package` for the shards of several runs: texts that were there before are left out.

    A source is in the split in which the first of its runs had it.
    """
    packaging = parts[0].packaging
    shards = [path for part in parts for path in part.shards]
    schema = unify_schemas(shards)
    for part in parts:
        require_columns(schema.names, part.packaging)
    inputs = _hash_inputs(shards, parts, origin)
    if (found := read_manifest(out)) is not None and found.get("inputs") == inputs:
        return PackageResult(out, found, fresh=False)
    splits = Splits([part.split or split_of(part) for part in parts])
    with replace_folder(out) as folder:
        writer = _write_rows(folder, parts, schema, splits)
        _require_rows(writer.rows, writer.reasons, shards)
        manifest = {
            "version": 1,
            "runs": list(origin.runs),
            "name": origin.name,
            **packaging.as_json(),
            "rows": writer.rows,
            "reasons": writer.reasons,
            "columns": writer.columns,
            "command": origin.command,
            "pipeline_hash": origin.pipeline_hash,
            "decision": origin.decision,
            "review_head": origin.review_head,
            "marks": list(origin.marks),
            "parts": list(origin.parts),
            "mixed": writer.mixed,
            "moved_sources": splits.moved,
            "inputs": inputs,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        write_card(folder / "README.md", manifest)
        manifest["files"] = hash_files(folder)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return PackageResult(out, manifest)


def split_of(part: Part) -> Split:
    """How a run's own dataset parts its sources."""
    return Split(part.packaging.seed, find_cutoff(part.shards, part.packaging))


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


def _hash_inputs(shards: Sequence[Path], parts: Sequence[Part], origin: Origin) -> str:
    files = []
    for path in shards:
        with path.open("rb") as file:
            files.append(hashlib.file_digest(file, "sha256").hexdigest())
    settings = [part.packaging.as_json() for part in parts]
    decided = settings[0] if len(settings) == 1 else settings
    return content_hash([files, decided, origin.marks, origin.review_head], 32)


def unify_schemas(shards: Sequence[Path]) -> pa.Schema:
    """The columns of all shards; where shards disagree about a type, the one that holds all, else text.

    Raises:
        ManifestError: They disagree about one of nexa's own columns, or one cannot be read.
    """
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
    except pa.ArrowException:
        names = dict.fromkeys(name for schema in [*schemas, stated] for name in schema.names)
        return pa.schema([_unify_column(name, [*schemas, stated]) for name in names])


def _unify_column(name: str, schemas: Sequence[pa.Schema]) -> pa.Field:
    types = dict.fromkeys(schema.field(name).type for schema in schemas if name in schema.names)
    alone = [pa.schema([(name, kind)]) for kind in types]
    try:
        return pa.unify_schemas(alone, promote_options="permissive").field(name)
    except pa.ArrowException as cause:
        if name in OWN_COLUMNS:
            told = " and ".join(map(str, types))
            raise ManifestError(
                f"The shards disagree about the type of '{name}': {told}.",
                "Package the runs one by one.",
            ) from cause
        return pa.field(name, pa.string())


def _write_rows(
    folder: Path, parts: Sequence[Part], schema: pa.Schema, splits: Splits
) -> DatasetWriter:
    """Write every split, with the rows of each part, then what is mixed in."""
    mix = parts[0].packaging.mix
    seen: set[bytes] | None = set() if len(parts) > 1 or mix else None
    with DatasetWriter(folder) as writer:
        for part in parts:
            sorter = RowSorter(part.packaging, splits.holds_out, seen)
            whole = part.packaging.choosing is not None
            wanted = part.packaging.most
            for table in read_shards(part.shards, schema, schema.names, wanted, whole):
                writer.add(sorter.sort(table))
        writer.mix(mix, RowSorter(parts[0].packaging, splits.runs[0].holds_out, seen))
    return writer


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
