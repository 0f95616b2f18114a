"""Making runs: start, take up again, scale; and each later phase by itself."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nexa_core.actions.calibrating import warn_of_judges
from nexa_core.actions.carrying import CHANGEABLE, DEFAULT, Conduct, carry_out
from nexa_core.actions.rehearsing import PHASES as REHEARSED
from nexa_core.actions.rehearsing import rehearse, serve_rehearsal
from nexa_core.engine.announcer import Listener
from nexa_core.engine.binding import STORED_SOURCE, bind, bind_stored, describe_run
from nexa_core.engine.campaign import PHASES, Outcome
from nexa_core.engine.estimate import estimate_plan
from nexa_core.engine.plan import Plan
from nexa_core.engine.preflight import check_plan
from nexa_core.engine.sources import HeldRows, ParquetFile
from nexa_core.errors import UsageError
from nexa_core.events import Event, RunResumed, RunStarted, SettingChanged, WarningRaised
from nexa_core.pipeline import Pipeline, load_pipeline, pipeline_from
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.prices import is_local
from nexa_core.protocols import Source
from nexa_core.secrets import redact
from nexa_core.store.events import read_events
from nexa_core.store.files import replace_file
from nexa_core.store.lock import RunLock
from nexa_core.store.runs import Run, create_run, find_run, open_run
from nexa_core.store.status import read_status
from nexa_core.workspace import Workspace

DEMO_SETTINGS = ("respond.sampling.temperature=1.0", "respond.sampling.top_p=1.0")
"""Where the demo starts: the defaults of the popular APIs."""
ASKING = "gate={extends: pilot_qc, reviewers: [policy, human]}"
"""The demo's gate where a person decides on what the policy proposes."""
PACE = re.compile(r"models\.[a-z][a-z0-9_]*\.(concurrency|rpm|tpm)")
"""Paths that only say how fast a run goes."""


def run_pipeline(
    file: str | Path,
    *,
    workspace: Workspace,
    sets: Sequence[str] = (),
    run_id: str | None = None,
    phases: Sequence[str] = PHASES,
    listeners: Sequence[Listener] = (),
    workspace_plugins: bool = True,
    allow_short: bool = False,
    reuse: Sequence[str] = (),
    rehearsal: bool = False,
) -> Outcome:
    """Run a pipeline file; an existing `run_id` with the same pipeline is taken up again.

    Raises:
        UsageError: The file, its settings or the run id are wrong, or the run could not succeed.
    """
    pipeline = load_pipeline(workspace.find_pipeline(str(file)), sets)
    plugins = load_plugins(workspace, workspace_plugins)
    conduct = Conduct(allow_short=allow_short, reuse=tuple(reuse), rehearsal=rehearsal)
    if rehearsal:
        pipeline, phases = rehearse(pipeline), [one for one in phases if one in REHEARSED]
    return start(pipeline, workspace, plugins, run_id, phases, listeners, conduct=conduct)


def start(
    pipeline: Pipeline,
    workspace: Workspace,
    plugins: Plugins,
    run_id: str | None = None,
    phases: Sequence[str] = PHASES,
    listeners: Sequence[Listener] = (),
    data: Any = None,
    conduct: Conduct = DEFAULT,
) -> Outcome:
    """Run a pipeline; `data` (rows in memory) stands in for its source and is kept with the run."""
    workspace.load_environment()
    if run_id is not None:
        found = find_run(workspace.artifacts_path, run_id, pipeline.hash)
        if found is not None:
            return resume(found, workspace, plugins, phases, listeners, conduct=conduct)
    held = HeldRows(data) if data is not None else None
    plan, source = bind(pipeline, workspace, plugins, held)
    with serve_rehearsal(plan):
        return _begin(plan, source, held, workspace, run_id, phases, listeners, conduct)


def _begin(
    plan: Plan,
    source: Source | None,
    held: HeldRows | None,
    workspace: Workspace,
    run_id: str | None,
    phases: Sequence[str],
    listeners: Sequence[Listener],
    conduct: Conduct,
) -> Outcome:
    pipeline = plan.pipeline
    warnings = check_plan(plan, workspace.artifacts_path, rows_only=conduct.rehearsal)
    record = describe_run(plan, source, workspace, command_line(), phases)
    record |= {"reuse": find_reused(workspace, conduct.reuse), "rehearsal": conduct.rehearsal}
    warnings += warn_of_judges(record, workspace)
    run = create_run(workspace.artifacts_path, run_id, pipeline.name, record)
    keep_estimate(run, plan, source)
    if held is not None:
        pq.write_table(held.table, run.path / STORED_SOURCE)
        source = ParquetFile(str(run.path / STORED_SOURCE))
    begun: list[Event] = [RunStarted(run.id, pipeline.name, pipeline.hash, pipeline.seed)]
    begun += [WarningRaised(warning) for warning in warnings]
    return carry_out(run, plan, source, workspace, phases, listeners, begun, conduct)


def find_reused(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """The ids of the runs that `--reuse` names, `latest` and `none` understood.

    Raises:
        UsageError: There is no such run, or it is a rehearsal.
    """
    found = [open_run(workspace.artifacts_path, name) for name in names if name != "none"]
    for run in found:
        if run.record.get("rehearsal"):
            raise UsageError(
                f"Run '{run.id}' is a rehearsal: its replies are not a model's.",
                "Name a real run after --reuse.",
            )
    return list(dict.fromkeys(run.id for run in found))


def resume_run(
    run: str,
    *,
    workspace: Workspace,
    sets: Sequence[str] = (),
    phases: Sequence[str] | None = None,
    listeners: Sequence[Listener] = (),
    workspace_plugins: bool = True,
    conduct: Conduct = DEFAULT,
) -> Outcome:
    """Take a run up again where it ended: what is committed stays, what was paid for is replayed."""
    workspace.load_environment()
    plugins = load_plugins(workspace, workspace_plugins)
    found = open_run(workspace.artifacts_path, run)
    return resume(found, workspace, plugins, phases, listeners, sets, conduct)


def resume(
    run: Run,
    workspace: Workspace,
    plugins: Plugins,
    phases: Sequence[str] | None = None,
    listeners: Sequence[Listener] = (),
    sets: Sequence[str] = (),
    conduct: Conduct = DEFAULT,
) -> Outcome:
    """Take up an opened run. Without `phases`, those it was started with."""
    with RunLock.acquire(run.path):
        pass  # a second owner is refused now, not after preflight has waited for endpoints
    plan, source = bind_stored(run, workspace, plugins)
    status = read_status(run.path)["status"]
    begun: list[Event] = [RunResumed(run.id, status)]
    plan, changed = _change_settings(plan, sets, conduct.changeable)
    begun += changed
    wanted = phases or run.record["phases"]
    with serve_rehearsal(plan):
        rehearsed = bool(run.record.get("rehearsal"))
        warnings = check_plan(plan, workspace.artifacts_path, rows_only=rehearsed)
        begun += _new_warnings(run, warnings)
        return carry_out(run, plan, source, workspace, wanted, listeners, begun, conduct)


def _new_warnings(run: Run, warnings: Sequence[str]) -> list[WarningRaised]:
    """Those that the run has not told before."""
    records = read_events(run.path).records
    told = {record["message"] for record in records if record["event"] == "WarningRaised"}
    return [WarningRaised(warning) for warning in warnings if warning not in told]


def scale_run(run: str, *, workspace: Workspace, **settings: Any) -> Outcome:
    """Scale a run whose pilot has passed."""
    return resume_run(run, workspace=workspace, phases=("pilot", "scale"), **settings)


def package_only(
    run: str, *, workspace: Workspace, allow_short: bool = False, **settings: Any
) -> Outcome:
    """Package what a run has accepted, and make no further row."""
    return _later(run, workspace, "package", allow_short, settings)


def train_only(run: str, *, workspace: Workspace, **settings: Any) -> Outcome:
    """Train on a run's dataset, which is packaged first where it is not yet."""
    return _later(run, workspace, "train", True, settings)


def evaluate_only(run: str, *, workspace: Workspace, **settings: Any) -> Outcome:
    """Evaluate a run's student against its base, trained first where it is not yet."""
    return _later(run, workspace, "evaluate", True, settings)


def _later(
    run: str, workspace: Workspace, phase: str, allow_short: bool, settings: dict[str, Any]
) -> Outcome:
    phases = PHASES[: PHASES.index(phase) + 1]
    later = PHASES[PHASES.index("package") :]
    return resume_run(
        run,
        workspace=workspace,
        phases=phases,
        conduct=Conduct(frozen=True, allow_short=allow_short, changeable=(*CHANGEABLE, *later)),
        **settings,
    )


def demo(
    *,
    workspace: Workspace,
    seed: int = 0,
    run_id: str | None = None,
    ask: bool = False,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """The whole campaign on the embedded model: the shipped bootstrap pipeline from API defaults.

    With `ask` the run waits at its gate for a person.
    """
    file = workspace.find_pipeline("bootstrap")
    sets = [*DEMO_SETTINGS, f"seed={seed}", "name=demo", *([ASKING] if ask else [])]
    return run_pipeline(file, workspace=workspace, sets=sets, run_id=run_id, listeners=listeners)


def command_line() -> list[str]:
    """The command as it was typed, without the path of the program."""
    return [Path(sys.argv[0]).name, *map(redact, sys.argv[1:])]


def _change_settings(
    plan: Plan, sets: Sequence[str], changeable: Sequence[str]
) -> tuple[Plan, list[SettingChanged]]:
    """The plan with the settings that may change later; others are refused."""
    for each in sets:
        path = each.partition("=")[0]
        if path.partition(".")[0] not in changeable and not PACE.fullmatch(path):
            raise UsageError(
                f"'{each}' cannot change in a run that has begun.",
                f"These can: {', '.join(changeable)}, and of a model its concurrency, rpm and tpm. "
                "For anything else start a new run.",
            )
    if not sets:
        return plan, []
    pipeline = pipeline_from(plan.pipeline.resolved(), sets)
    paths = [each.partition("=")[0] for each in sets]
    changed = [
        SettingChanged(path, plan.pipeline.value_at(path), pipeline.value_at(path))
        for path in paths
    ]
    return replace(plan, pipeline=pipeline, built={}), changed


def keep_estimate(run: Run, plan: Plan, source: Source | None) -> None:
    """Note what the run is expected to ask and cost, where a provider is paid, for the report."""
    if any(not is_local(role) for role in plan.pipeline.models.values()):
        estimate = estimate_plan(plan, source)
        replace_file(run.estimate_path, json.dumps(estimate, indent=1).encode())
