"""Prompts as a model would see them, and what is wrong with any of them; no model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nexa_core.engine.binding import bind
from nexa_core.engine.preflight import check_prompts as check_columns
from nexa_core.engine.sources import SourceRow, open_source, read_rows, read_source
from nexa_core.errors import NexaError, UsageError
from nexa_core.pipeline import load_pipeline
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.prompts import Prompt, read_prompt
from nexa_core.records import Row
from nexa_core.workspace import Workspace

__all__ = ["check_prompts", "show_prompt"]


def show_prompt(
    file: str,
    row: int = 1,
    *,
    workspace: Workspace,
    step: str | None = None,
    source: str | None = None,
    sets: Sequence[str] = (),
    workspace_plugins: bool = True,
) -> list[dict[str, Any]]:
    """The prompts of a pipeline's steps, or one prompt file, for row `row` (from 1) of the source.

    A column that is not there yet, because an earlier step writes it, stands as `⟨its name⟩`.

    Raises:
        UsageError: There is no such file, step or row.
    """
    plugins = load_plugins(workspace, workspace_plugins)
    if _is_pipeline(file, workspace):
        return _show_pipeline(file, row, workspace, step, sets, plugins)
    prompt = _read(file, plugins)
    if row != 1 and source is None:
        raise UsageError(
            f"The prompt '{prompt.name}' has no rows of its own to take row {row} from.",
            "Name a file with --source, or a pipeline in place of the prompt.",
        )
    rows = read_source(open_source(source, workspace.root), None, {}) if source else None
    values = _pick(rows, row) if rows else {}
    return [_render(prompt.name, prompt, values)]


def check_prompts(
    files: Sequence[str] = (), *, workspace: Workspace, workspace_plugins: bool = True
) -> dict[str, Any]:
    """Compile prompts and compare their inputs with what they use, and with their pipelines' columns.

    Without `files`: every prompt and pipeline of the workspace. `faults` are errors as JSON.
    """
    plugins = load_plugins(workspace, workspace_plugins)
    found: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    for file in files or _own_files(workspace):
        try:
            for prompt in _checked(file, workspace, plugins):
                told = {"prompt": prompt.name, "hash": prompt.hash, "inputs": list(prompt.inputs)}
                found.append({"file": file, **told})
        except NexaError as error:
            faults.append(error.as_json())
    return {"prompts": found, "faults": faults}


def _own_files(workspace: Workspace) -> list[str]:
    root = workspace.root
    found = [*sorted(root.glob("prompts/**/*.md")), *sorted(root.glob("pipelines/**/*.yaml"))]
    return [str(path.relative_to(root)) for path in found if path.name != "README.md"]


def _checked(file: str, workspace: Workspace, plugins: Plugins) -> Iterator[Prompt]:
    path = workspace.root / file
    if not _is_pipeline(file, workspace):
        below = workspace.root / "prompts"
        named = below in path.parents and path.is_file()
        name = path.relative_to(below).with_suffix("").as_posix() if named else None
        yield read_prompt(path, name).check() if path.is_file() else _read(file, plugins)
        return
    pipeline = load_pipeline(workspace.find_pipeline(str(path) if path.is_file() else file))
    plan, _ = bind(pipeline, workspace, plugins)
    check_columns(plan)
    yield from (prompt.check() for prompt in plan.prompts.values())


def _is_pipeline(file: str, workspace: Workspace) -> bool:
    if Path(file).suffix in (".yaml", ".yml"):
        return True
    return not Path(file).suffix and file in workspace.name_files("pipeline")


def _read(file: str, plugins: Plugins) -> Prompt:
    return read_prompt(file) if Path(file).suffix else plugins.prompt(file)


def _show_pipeline(
    file: str,
    row: int,
    workspace: Workspace,
    step: str | None,
    sets: Sequence[str],
    plugins: Plugins,
) -> list[dict[str, Any]]:
    pipeline = load_pipeline(workspace.find_pipeline(file), sets)
    plan, source = bind(pipeline, workspace, plugins)
    if step is not None:
        pipeline.step(step.partition("@")[0])
    values: Row = _pick(read_rows(source, pipeline), row) if source is not None else {}
    return [
        _render(key, prompt, values)
        for key, prompt in plan.prompts.items()
        if step is None or key.partition("@")[0] == step or key == step
    ]


def _pick(rows: Iterator[SourceRow], row: int) -> Row:
    """The columns of row `row`, counted from 1."""
    found = next(islice(rows, row - 1, None), None) if row > 0 else None
    if found is None:
        raise UsageError(f"The source has no row {row}.", "Rows are counted from 1.")
    if found.error is not None:
        raise UsageError(f"Row {row} of the source cannot be read: {found.error}.")
    return {"id": found.row_id, **found.columns}


def _render(key: str, prompt: Prompt, values: Row) -> dict[str, Any]:
    missing = sorted({*prompt.inputs, *prompt.variables} - values.keys())
    rendered = prompt.render({**values, **{name: f"⟨{name}⟩" for name in missing}})
    turns: list[dict[str, Any]] = (
        [{"role": "text", "content": rendered}]
        if isinstance(rendered, str)
        else [{"role": turn.role, "content": turn.content} for turn in rendered]
    )
    return {
        "step": key,
        "prompt": prompt.name,
        "version": prompt.version,
        "hash": prompt.hash,
        "inputs": {n: values.get(n) for n in prompt.inputs if n not in missing},
        "not_there_yet": missing,
        "messages": turns,
    }
