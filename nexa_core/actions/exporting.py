"""Takes a packaged dataset elsewhere: a folder, an object store, the hub; with a trainer's recipe."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nexa_core.actions.recipes import write_recipe
from nexa_core.engine.dataset_files import replace_folder
from nexa_core.engine.packaging import read_manifest
from nexa_core.errors import ManifestError, MissingExtraError, StoreError, UsageError, boundary
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["export_dataset"]

LAST = "manifest.json"
"""Written last, so that a copy that was cut short has none."""


def export_dataset(
    run: str, to: str, recipe: str | None = None, *, workspace: Workspace
) -> dict[str, Any]:
    """Copy the dataset of a run, or of a folder, to `dir:PATH`, an fsspec URL or `hub:NAME`.

    Every file is compared with the manifest's SHA-256 first. With a `recipe` (trl, axolotl, unsloth)
    the data lie in `dataset/`, and a configuration beside it starts on them from that folder.

    Raises:
        UsageError: There is no dataset, the target is taken or unknown, or a rehearsal would be
            published.
        ManifestError: A file is not what was packaged.
    """
    folder = _find_dataset(run, workspace)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"'{run}' has no dataset.", f"`nexa package {run}` makes one.")
    _verify(folder, manifest)
    kind, _, name = to.partition(":")
    if "rehearsal" in manifest["marks"] and kind != "dir":
        raise UsageError("A rehearsal's dataset is not published.", "Use dir:PATH to look at it.")
    with _staged(folder, manifest, recipe, name if kind == "hub" else None) as staged:
        if kind == "dir" and name:
            where = _to_folder(staged, Path(name))
        elif kind == "hub" and name:
            where = _to_hub(staged, name)
        elif "://" in to:
            # A store's own errors are of no common kind: the network's, a cloud's, a driver's.
            with boundary(StoreError, f"The export to '{to}'"):
                where = _to_store(staged, to)
        else:
            raise UsageError(
                f"'{to}' is no place to export to.",
                "Write dir:PATH, s3://BUCKET/PATH (or another fsspec URL) or hub:OWNER/NAME.",
            )
        files = [path for path in staged.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    return {"to": where, "files": len(files), "bytes": size, "recipe": recipe}


def _find_dataset(run: str, workspace: Workspace) -> Path:
    given = Path(run)
    if (given / LAST).is_file():
        return given
    merged = workspace.artifacts_path / run / "dataset"
    if run.startswith("merged-") and (merged / LAST).is_file():
        return merged
    return open_run(workspace.artifacts_path, run).dataset


def _verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    for name, wanted in manifest["files"].items():
        path = folder / name
        found = None
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            what = "is not what was packaged" if found else "is missing"
            raise ManifestError(f"'{path}' {what}.", "Package again, then export.")


@contextmanager
def _staged(
    folder: Path, manifest: Mapping[str, Any], recipe: str | None, hub: str | None
) -> Iterator[Path]:
    """A folder that looks as the target shall."""
    if recipe is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="nexa-export-") as made:
        root = Path(made)
        # On the hub the card must be at the root; a recipe there names the dataset by its name.
        shutil.copytree(folder, root if hub else root / "dataset", dirs_exist_ok=True)
        write_recipe(root, recipe, manifest, hub or "dataset")
        yield root


def _to_folder(staged: Path, target: Path) -> str:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"'{target}' is there already.", "Name a folder that is empty or new.")
    with replace_folder(target.absolute()) as fresh:
        shutil.copytree(staged, fresh, dirs_exist_ok=True)
    return str(target)


def _to_store(staged: Path, url: str) -> str:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as cause:
        raise MissingExtraError(
            f"'{url}' cannot be reached: {cause}.", "For s3: `pip install 'nexa-core[s3]'`."
        ) from cause
    root = root.rstrip("/")
    try:
        if system.exists(f"{root}/{LAST}") or system.exists(f"{root}/dataset/{LAST}"):
            raise UsageError(f"'{url}' holds a dataset already.", "Name another place.")
        paths = sorted(path for path in staged.rglob("*") if path.is_file())
        for path in sorted(paths, key=lambda each: each.name == LAST):
            there = f"{root}/{path.relative_to(staged).as_posix()}"
            system.makedirs(there.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), there)
            if system.size(there) != path.stat().st_size:
                raise StoreError(f"'{there}' is shorter than what was sent.", "Export again.")
    except OSError as cause:
        raise StoreError(f"'{url}' cannot be written: {cause}.", "Export again.") from cause
    return url


def _to_hub(staged: Path, name: str) -> str:
    """A private dataset repository on the hub, or at $HF_ENDPOINT; made where there is none."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as cause:
        raise MissingExtraError(
            f"'hub:{name}' needs huggingface_hub.", "`pip install 'nexa-core[hub]'` (3 MB)."
        ) from cause
    api = HfApi()
    try:
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=staged,
            commit_message="Dataset by nexa",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as cause:
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise UsageError(
            f"'{name}' could not be put on the hub: {first}",
            "Set HF_TOKEN to a token that may write, and name it OWNER/NAME.",
        ) from cause
    return f"{api.endpoint}/datasets/{name}"
