"""Binds a pipeline to its gate, prompts, source and plugins, from files or from a run's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from nexa_core.conversations import part_answer
from nexa_core.engine.environment import describe_environment, find_commit
from nexa_core.engine.models import Models
from nexa_core.engine.plan import Plan
from nexa_core.engine.seating import reviewer_prompt_key
from nexa_core.engine.sources import (
    HeldRows,
    ParquetFile,
    check_names,
    fingerprint,
    lacks_answer,
    open_source,
    read_rows,
)
from nexa_core.errors import (
    GateFileError,
    PipelineFileError,
    Place,
    PromptFileError,
    SourceError,
    UnknownNameError,
)
from nexa_core.gates import Gate, ReviewerUse, bind_gate, bind_measures, gate_from
from nexa_core.pipeline import CheckStep, JudgeStep, Pipeline, from_resolved
from nexa_core.plugins import Plugins
from nexa_core.prompts import CONTINUE, Prompt
from nexa_core.protocols import Source
from nexa_core.specs import ReviewerSpec
from nexa_core.store.runs import Run
from nexa_core.workspace import Workspace

STORED_SOURCE = "source.parquet"
HELD_PATH = "rows-in-memory.parquet"
"""What stands for the path of a source whose rows are given in memory, and lie in `STORED_SOURCE`."""
FIRST_ROWS = 100
IDENTITY = 2
"""How calls are identified; since 2 by the address too that a role names."""
"""Rows in which a conversation to continue must be."""
_PROMPT_FIELDS = [
    "name",
    "version",
    "api",
    "system",
    "body",
    "inputs",
    "stop",
    "delimiters",
    "positive",
    "negative",
    "schema",
    "criteria",
    "flags",
    "continues",
]


def bind(
    pipeline: Pipeline, workspace: Workspace, plugins: Plugins, source: Source | None = None
) -> tuple[Plan, Source | None]:
    """A plan from what the user wrote; `source` stands in for the pipeline's own."""
    gate = _read_gate(pipeline, plugins)
    prompts = {
        key: CONTINUE
        if prompt is None
        else plugins.prompt(prompt, key, pipeline.place(f"{key}.prompt"))
        for key, prompt in _prompt_names(pipeline)
    }
    prompts |= _read_reviewer_prompts(gate, pipeline, plugins)
    source = source or _open_source(pipeline, workspace, plugins)
    commit = find_commit(workspace.root)
    judged = _read_dataset_gate(pipeline, plugins)
    models, columns = Models(plugins), columns_of(source, pipeline)
    plan = Plan(pipeline, gate, plugins, prompts, models, columns, commit, judged)
    _check_conversations(plan, source)
    return plan, source


def bind_stored(run: Run, workspace: Workspace, plugins: Plugins) -> tuple[Plan, Source | None]:
    """The plan of a run that was started before, from its run.json alone.

    Raises:
        SourceError: The source is not the one that the run began with.
    """
    record = run.record
    pipeline = from_resolved(record["pipeline"])
    gate = Gate.from_json(record["gate"]) if record["gate"] else None
    prompts = {key: stored_prompt(value) for key, value in record["prompts"].items()}
    stored = run.path / STORED_SOURCE
    source = (
        ParquetFile(str(stored)) if stored.exists() else _open_source(pipeline, workspace, plugins)
    )
    # Rows that were held in memory are known by what they say, not by the bytes of the file they lie in.
    known = _hold(stored) if stored.exists() else source
    if known is not None and fingerprint(known) != record["source"]["fingerprint"]:
        raise SourceError(
            f"The source '{record['source']['path']}' has changed since the run '{run.id}' began.",
            "Put the old file back to go on, or start a new run.",
            Place(str(run.record_path)),
        )
    commit = record["environment"]["git_commit"]
    judged = record.get("dataset_gate")
    dataset_gate = Gate.from_json(judged) if judged else None
    models, columns = Models(plugins), columns_of(source, pipeline)
    addressed = record.get("identity", 1) >= IDENTITY
    plan = Plan(pipeline, gate, plugins, prompts, models, columns, commit, dataset_gate, addressed)
    return plan, source


def _hold(stored: Path) -> Source:
    import pyarrow.parquet as pq

    return HeldRows(pq.read_table(stored))


def describe_run(
    plan: Plan,
    source: Source | None,
    workspace: Workspace,
    command: list[str],
    phases: Sequence[str],
) -> dict[str, Any]:
    """The content of run.json: everything that decides what the run will do, and on what it runs."""
    from nexa_core import __version__

    settings = plan.pipeline.source
    return {
        "nexa_version": __version__,
        "identity": IDENTITY,
        "pipeline": plan.pipeline.resolved(),
        "pipeline_hash": plan.pipeline.hash,
        "pipeline_file": plan.pipeline.path,
        "gate": plan.gate.as_json() if plan.gate else None,
        "gate_hash": plan.gate.hash if plan.gate else None,
        "dataset_gate": plan.dataset_gate.as_json() if plan.dataset_gate else None,
        "seed": plan.pipeline.seed,
        "command": command,
        "phases": list(phases),
        "source": {
            "path": HELD_PATH if isinstance(source, HeldRows) or not settings else settings.path,
            "fingerprint": fingerprint(source),
        }
        if source is not None
        else None,
        "prompts": {key: _store_prompt(prompt) for key, prompt in plan.prompts.items()},
        "environment": describe_environment(workspace.root, plan.code_commit),
        "plugins": plan.plugins.fingerprint(),
        "reuse": [],
        "rehearsal": False,
    }


def columns_of(source: Source | None, pipeline: Pipeline) -> tuple[str, ...]:
    """The columns of a source's first readable row, by the names that `source.map` gives them.

    Raises:
        SourceError: The source has no row that can be read, or its columns cannot be named so.
    """
    if source is None:
        return ()
    errors = []
    for row in source.rows():
        if not isinstance(row, Exception):
            return _name_columns(row, pipeline)
        errors.append(row)
        if len(errors) == 100:
            break
    if errors:
        raise SourceError(f"No row of the source can be read: {errors[0]}.", "Is it JSON Lines?")
    raise SourceError("The source is empty.", "Point source.path at a file with rows.")


def _name_columns(row: Mapping[str, Any], pipeline: Pipeline) -> tuple[str, ...]:
    settings = pipeline.source
    identity, renames = (settings.id, settings.map) if settings else (None, {})
    place = pipeline.place("source.map") or pipeline.place("source")
    check_names(row, identity, renames, place)
    named = {ours: row[theirs] for ours, theirs in renames.items()}
    named |= {name: row[name] for name in row if name not in {*renames.values(), *renames}}
    return tuple(part_answer(named) if lacks_answer(named, pipeline) else named)


def _prompt_names(pipeline: Pipeline) -> Sequence[tuple[str, Any]]:
    """Every prompt the pipeline uses, as (key in the plan, name or inline prompt)."""
    named: list[tuple[str, Any]] = []
    for step in pipeline.asking_steps:
        if isinstance(step, JudgeStep):
            named += [(step.id, step.rubric)] if step.rubric is not None else []
        elif not isinstance(step, CheckStep):
            named.append((step.id, step.prompt))
    retry = pipeline.accept.retry if pipeline.accept else None
    if retry is not None and retry.prompt is not None:
        named.append((f"{retry.step}@retry", retry.prompt))
    return named


def _read_gate(pipeline: Pipeline, plugins: Plugins) -> Gate | None:
    if pipeline.gate is None:
        return None
    gate = gate_from(
        pipeline.gate,
        lambda name, place: plugins.file("gate", name, place),
        lambda keys: pipeline.place(_dotted("gate", keys)),
    )
    for use in gate.reviewers:
        _check_reviewer(pipeline, plugins.reviewers.get(use.name, use.place), use)
    gate = replace(gate, reviewers=tuple(_freeze(use, plugins) for use in gate.reviewers))
    metrics = {spec.name: spec for spec in plugins.metrics.specs()}
    return bind_gate(gate.with_fail_over(pipeline.fail_over), metrics)


def _read_dataset_gate(pipeline: Pipeline, plugins: Plugins) -> Gate | None:
    """The gate that `package.gate` names or writes out; None for `none`, or where nothing is packaged."""
    if pipeline.package is None or pipeline.package.gate == "none":
        return None
    gate = gate_from(
        pipeline.package.gate,
        lambda name, place: plugins.file("gate", name, place),
        lambda keys: pipeline.place(_dotted("package.gate", keys)),
    )
    return bind_measures(gate)


def _check_reviewer(pipeline: Pipeline, spec: ReviewerSpec, use: ReviewerUse) -> None:
    """Refuse a reviewer that asks a model and names no role of the pipeline."""
    role = use.options.get("model")
    if not spec.asks or role in pipeline.models:
        return
    if role is None:
        raise GateFileError(
            f"The reviewer '{use.name}' asks a model, and no role is named.",
            f"Write {{{use.name}: {{model: ROLE}}}} with a role of the pipeline's `models`.",
            use.place,
        )
    fix = f"Add `{role}` under `models` of the pipeline."
    raise UnknownNameError("model role", str(role), pipeline.models, use.place, fix)


def _freeze(use: ReviewerUse, plugins: Plugins) -> ReviewerUse:
    """A reviewer's use with the files that it names read: the run keeps what they say now."""
    spec: ReviewerSpec = plugins.reviewers.get(use.name, use.place)
    if spec.freeze is None:
        return use
    return replace(use, options=spec.freeze(use.options, plugins.workspace.root))


def _read_reviewer_prompts(
    gate: Gate | None, pipeline: Pipeline, plugins: Plugins
) -> dict[str, Prompt]:
    """The prompts that reviewers are built with, as the run will keep them; each fits its role."""
    found = {}
    for use in gate.reviewers if gate else ():
        spec = plugins.reviewers.get(use.name, use.place)
        name = use.options.get("prompt") or spec.prompt
        if name is None:
            continue
        prompt = found[reviewer_prompt_key(use)] = plugins.prompt(str(name), str(name), use.place)
        role = str(use.options.get("model"))
        if spec.asks and prompt.api != pipeline.models[role].api:
            raise GateFileError(
                f"The prompt '{prompt.name}' is for `api: {prompt.api}`, and the role '{role}' of the "
                f"reviewer '{use.name}' is asked by `api: {pipeline.models[role].api}`.",
                "Name a role of the prompt's kind, or another prompt.",
                use.place,
            )
    return found


def _dotted(head: str, keys: Any) -> str:
    return ".".join([head, *(str(key) for key in keys)])


def _check_conversations(plan: Plan, source: Source | None) -> None:
    """Raise where a step continues conversations and the source's first rows hold none to continue."""
    continuing = [key for key, prompt in plan.prompts.items() if prompt.continues]
    if not continuing or source is None:
        return
    place = plan.pipeline.place(continuing[0])
    problem = None
    for row in islice(read_rows(source, plan.pipeline), FIRST_ROWS):
        if row.error is not None:
            continue
        try:
            CONTINUE.render(row.columns)
            return
        except PromptFileError as cause:
            problem = cause.problem
    raise PipelineFileError(
        f"The generate step '{continuing[0]}' has no prompt, and no row to continue: {problem}",
        "Name a prompt, write one inline: prompt: {user: …}, or give a source with `messages`.",
        place,
    )


def _open_source(pipeline: Pipeline, workspace: Workspace, plugins: Plugins) -> Source | None:
    if pipeline.source is None:
        return None

    def shipped(name: str) -> Source | None:
        if name not in plugins.sources.names():
            return None
        found: Source = plugins.build(plugins.sources.get(name), None)
        return found

    place = pipeline.place("source.path")
    return open_source(pipeline.source.path, workspace.root, place, shipped)


def _store_prompt(prompt: Prompt) -> dict[str, Any]:
    return {name: getattr(prompt, name) for name in _PROMPT_FIELDS} | {"hash": prompt.hash}


def stored_prompt(value: Mapping[str, Any]) -> Prompt:
    """A prompt from a run's own record."""
    fields = {name: value[name] for name in _PROMPT_FIELDS if name in value}
    for name in ("inputs", "stop", "delimiters"):
        fields[name] = tuple(fields[name])
    return Prompt(**fields)
