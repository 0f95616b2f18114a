"""Looking at runs, and ending or removing them: nothing here asks a model or changes a row.

Reads only run.json, events, status and manifests, so that it stays quick: no Parquet file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nexa_core.errors import NexaError, RunLockedError
from nexa_core.store.events import read_events
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.lock import find_owner, stop_owner
from nexa_core.store.manifest import count_retried, read_manifest, total_entries
from nexa_core.store.money import read_spent
from nexa_core.store.runs import list_runs as find_runs
from nexa_core.store.runs import open_run, remove_run
from nexa_core.store.status import read_status
from nexa_core.workspace import Workspace

__all__ = ["list_runs", "name_runs", "read_run", "remove_runs", "stop_run"]


def read_run(run: str, workspace: Workspace) -> dict[str, Any]:
    """Where a run stands: its status, units, rows by reason, decisions and phases.

    `rows` and `reasons` are those of the dataset: the iteration that passed, else the last, and scale.
    """
    found = open_run(workspace.artifacts_path, run)
    records = read_events(found.path).records
    pipeline = found.record.get("pipeline", {})
    units = [describe_unit(folder, pipeline) for folder in (*found.iterations(), found.scale)]
    units = [unit for unit in units if unit["shards"]]
    order = _reason_order(pipeline)
    dataset = _dataset_units(units)
    status, spent = read_status(found.path), read_spent(found, salvage=True)
    return {
        "run": found.id,
        "name": found.record.get("name"),
        "path": str(found.path),
        "status": status["status"],
        "reason": _last(records, "RunFinished").get("reason", ""),
        "phase": status["phase"],
        "pid": status["pid"],
        "started_at": status["started_at"],
        "updated_at": status["updated_at"],
        "created_at": found.record.get("created_at"),
        "rows": _sum(unit["rows"] for unit in dataset),
        "reasons": dict(sorted(_sum(unit["reasons"] for unit in dataset).items(), key=order)),
        "retried": sum(unit["retried"] for unit in dataset),
        "calls": _sum(unit["calls"] for unit in units),
        "served": _sum_roles(unit["served"] for unit in units),
        "cost_usd": spent.settled.total() / 1e9,
        "at_risk_usd": spent.at_risk.total() / 1e9,
        "rows_per_second": _rate(units),
        "units": units,
        "decisions": _decisions(records),
        "phases": _phases(records),
    }


def describe_unit(folder: ShardFolder, pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """What an iteration or scale has committed: rows, reasons, calls, cost, and how long it worked.

    `retried` are rows that count among the rejected ones and were tried again.
    """
    totals = total_entries(read_manifest(folder.path))
    return {
        "unit": folder.name,
        "shards": totals.shards,
        "rows": totals.rows,
        "reasons": totals.reasons,
        "retried": count_retried(totals, pipeline),
        "calls": totals.calls,
        "served": totals.served,
        "cost_usd": sum(totals.cost_nano.values()) / 1e9,
        "seconds": round(totals.seconds, 3),
    }


def list_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """Every run, the newest first: id, pipeline, status, decision, rows, cost, when it began and moved."""
    return [_summarise(run) for run in find_runs(workspace.artifacts_path)]


def stop_run(run: str, workspace: Workspace) -> dict[str, Any]:
    """Ask the process that works on a run to stop; `pid` is None when none does."""
    found = open_run(workspace.artifacts_path, run)
    owner = stop_owner(found.path)
    return {"run": found.id, "pid": owner.pid if owner else None}


def name_runs(runs: Iterable[str], workspace: Workspace) -> list[str]:
    """The ids of runs as a person named them: `latest` becomes an id; unknown ones are an error."""
    return list(dict.fromkeys(open_run(workspace.artifacts_path, run).id for run in runs))


def remove_runs(runs: Iterable[str], workspace: Workspace) -> list[str]:
    """Delete the folders of runs; their reviews stay. Refused for all when one is being worked on."""
    found = [open_run(workspace.artifacts_path, run) for run in runs]
    for run in found:
        if owner := find_owner(run.path):
            problem = f"Run '{run.id}' is being worked on by process {owner.pid}."
            raise RunLockedError(problem, f"`nexa stop {run.id}` first.")
    for run in found:
        remove_run(run)
    return [run.id for run in found]


def _summarise(run: Run) -> dict[str, Any]:
    try:
        record, status = run.record, read_status(run.path)
    except NexaError as error:
        return {"run": run.id, "status": "unreadable", "error": error.problem}
    return {
        "run": run.id,
        "name": record.get("name"),
        "status": status["status"],
        "phase": status["phase"],
        "iteration": status["iteration"],
        "decision": status["decision"],
        "rows": status["rows"],
        "cost_usd": status["cost_nano"] / 1e9,
        "updated_at": status["updated_at"],
        "created_at": record.get("created_at"),
    }


def _dataset_units(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pilots = [unit for unit in units if unit["unit"] != "scale"]
    return pilots[-1:] + [unit for unit in units if unit["unit"] == "scale"]


def _reason_order(pipeline: Mapping[str, Any]) -> Callable[[tuple[str, int]], tuple[int, str]]:
    """Sorts (reason, number) as the pipeline's steps reject: a row leaves at the first that fails.

    What accept says of several judges together, as `min_score` does, comes after the last of them.
    """
    names: list[str] = []
    judged = 0
    for step in pipeline.get("steps", []):
        for kind, body in step.items():
            uses = body if isinstance(body, list) else [{"step": body}]
            names += [str(use.get("id")) for each in uses for use in each.values()]
            judged = len(names) if kind in ("judge", "critic") else judged
    places = {name: 2 * at for at, name in enumerate(names)}
    return lambda item: (places.get(item[0], 2 * judged - 1), item[0])


def _decisions(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every look of the gate, oldest first, each with the changes that followed it."""
    found: list[dict[str, Any]] = []
    for record in records:
        if record["event"] == "GateDecided":
            kept = ("iteration", "decision", "reason", "checks", "review")
            found.append(
                {key: record.get(key) for key in kept}
                | {"phase": record.get("phase", "pilot"), "changes": {}, "changed_for": ""}
            )
        elif record["event"] == "ParametersChanged" and found:
            found[-1] |= {"changes": record["changes"], "changed_for": record["reason"]}
    return found


def _phases(records: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Seconds of every phase in the order of its first start; None for one that has not finished."""
    phases: dict[str, float | None] = {}
    for record in records:
        if record["event"] == "PhaseStarted":
            phases.setdefault(record["phase"], None)
        elif record["event"] == "PhaseFinished":
            phases[record["phase"]] = (phases.get(record["phase"]) or 0.0) + record["seconds"]
    return phases


def _rate(units: Iterable[Mapping[str, Any]]) -> float | None:
    """Rows per second of work, over all units."""
    units = list(units)
    seconds = sum(unit["seconds"] for unit in units)
    rows = sum(sum(unit["rows"].values()) for unit in units)
    return round(rows / seconds, 1) if seconds else None


def _last(records: Iterable[Mapping[str, Any]], event: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {}
    for record in records:
        if record["event"] == event:
            found = record
        elif record["event"] in ("RunResumed", "RunStarted"):
            found = {}
    return found


def _sum_roles(
    counts: Iterable[Mapping[str, Mapping[str, int]]],
) -> dict[str, dict[str, int]]:
    """Replies by role and server, over all units."""
    found = list(counts)
    roles = dict.fromkeys(role for each in found for role in each)
    return {role: _sum(each.get(role, {}) for each in found) for role in roles}


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for key, number in each.items():
            total[key] = total.get(key, 0) + number
    return total
