"""Two runs side by side: what was set otherwise, what became of the rows, what they cost, who is better."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nexa_core.actions.inspecting import read_run
from nexa_core.actions.pairing import pair_rows
from nexa_core.errors import UsageError
from nexa_core.records import State
from nexa_core.store.layout import Run
from nexa_core.store.runs import open_run
from nexa_core.workspace import Workspace

__all__ = ["diff_runs"]

_ABSENT = None
"""What stands for a setting that one of the runs does not have."""


def diff_runs(a: str, b: str, workspace: Workspace) -> dict[str, Any]:
    """What sets run B apart from run A. Reads their folders only; memory does not grow with the rows.

    `configuration` and `environment` list changed dotted paths with both values; `prompts` those that
    differ, with a unified diff of their texts; `reasons` the rows rejected for each reason; `paired`
    compares rows of the same source row and sample number, as `pair_rows` says.

    Raises:
        UsageError: A and B are one run.
    """
    first, second = (open_run(workspace.artifacts_path, run) for run in (a, b))
    if first.id == second.id:
        raise UsageError(f"'{a}' and '{b}' are one run, '{first.id}'.", "Name two runs.")
    sides = [_describe(run, workspace) for run in (first, second)]
    return {
        "a": sides[0],
        "b": sides[1],
        "configuration": _changes(_settings(first), _settings(second)),
        "environment": _changes(_circumstances(first), _circumstances(second)),
        "prompts": _compare_prompts(first.record, second.record),
        "paired": pair_rows(first, second),
    }


def _describe(run: Run, workspace: Workspace) -> dict[str, Any]:
    """The figures of one run: `rows` and `reasons` of its dataset, `cost_usd` of all that it asked.

    `acceptance` is of answers by their last attempt: a run that tries again must not look the worse for it.
    """
    found = read_run(run.id, workspace)
    rows = found["rows"]
    accepted, total = rows.get(State.ACCEPTED, 0), sum(rows.values())
    answers, passed = total - found["retried"], accepted + rows.get(State.SURPLUS, 0)
    cost = found["cost_usd"]
    return {
        "run": run.id,
        "name": found["name"],
        "status": found["status"],
        "rows": rows,
        "total_rows": total,
        "retried": found["retried"],
        "acceptance": passed / answers if answers else None,
        "reasons": found["reasons"],
        "calls": found["calls"],
        "cost_usd": cost,
        "usd_per_accepted_row": cost / accepted if accepted else None,
        "iterations": sum(unit["unit"] != "scale" for unit in found["units"]),
    }


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    paths = [*a, *(path for path in b if path not in a)]
    return [
        {"path": path, "a": a.get(path, _ABSENT), "b": b.get(path, _ABSENT)}
        for path in paths
        if a.get(path, _ABSENT) != b.get(path, _ABSENT)
    ]


def _settings(run: Run) -> dict[str, Any]:
    """Every setting by the dotted path that `--set` takes; the last iteration's parameters over them."""
    record = run.record
    pipeline = dict(record.get("pipeline", {}))
    steps, gate = pipeline.pop("steps", []), record.get("gate")
    pipeline.pop("gate", None)
    found = dict(_flatten(pipeline))
    found["steps"] = [name for name, _, _ in _name_steps(steps)]
    for name, kind, settings in _name_steps(steps):
        found[name] = kind
        found |= _flatten({key: each for key, each in settings.items() if key != "id"}, name)
    return found | dict(_flatten_gate(gate)) | _last_parameters(run)


def _flatten(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, each in value.items():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(each, Mapping):
            yield from _flatten(each, inner)
        else:
            yield inner, each


def _name_steps(steps: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The id, kind and settings of every step; a check counts as one."""
    for step in steps:
        for kind, settings in step.items():
            uses = settings if isinstance(settings, list) else [{kind: settings}]
            for use in uses:
                for name, own in use.items():
                    yield str(own.get("id", name)), str(name), own


def _flatten_gate(gate: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """A gate's settings; a rule's path ends in its metric, its value is what it demands."""
    if not gate:
        return
    yield "gate", gate.get("gate")
    yield "gate.confidence", gate.get("confidence")
    yield "gate.extend.max_rows", gate.get("max_rows")
    yield "gate.reviewers", [use.get("name") for use in gate.get("reviewers", [])]
    for part in ("hard", "soft"):
        for rule in gate.get(part, []):
            options = json.dumps(rule["options"]) if rule.get("options") else ""
            demand = f"{rule['op']} {rule['threshold']:g}".replace("_", " ")
            yield f"gate.{part}.{rule['metric']}{options}", demand


def _last_parameters(run: Run) -> dict[str, Any]:
    """What the reviewers made of the search space by the last iteration."""
    for folder in reversed(run.iterations()):
        if folder.parameters_path.is_file():
            read = json.loads(folder.parameters_path.read_bytes())
            return dict(read.get("parameters", {}))
    return {}


def _circumstances(run: Run) -> dict[str, Any]:
    """What a run was made with and from, beside its settings."""
    record, source = run.record, run.record.get("source") or {}
    environment = record.get("environment", {})
    packages = _flatten(environment.get("packages", {}), "packages")
    plugins = {f"plugins.{each['name']}": each.get("hash") for each in record.get("plugins", [])}
    return {
        "source.fingerprint": source.get("fingerprint"),
        "rehearsal": record.get("rehearsal", False),
        "nexa": record.get("nexa_version"),
        **{key: environment.get(key) for key in ("git_commit", "git_dirty", "python", "gpu")},
        **dict(packages),
        **plugins,
    }


def _compare_prompts(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompts that differ, by the step that uses them. None where a run has none."""
    sides = (a.get("prompts", {}), b.get("prompts", {}))
    found = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        old, new = (side.get(key) for side in sides)
        hashes = [side["hash"] if side else None for side in (old, new)]
        if hashes[0] != hashes[1]:
            names = [side["name"] if side else None for side in (old, new)]
            entry = {"step": key, "names": names, "hashes": hashes, "diff": _diff_texts(old, new)}
            found.append(entry)
    return found


def _diff_texts(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[str]:
    lines = difflib.unified_diff(_text_of(a), _text_of(b), lineterm="", n=2)
    return [line for line in lines if not line.startswith(("---", "+++"))]


def _text_of(prompt: Mapping[str, Any] | None) -> list[str]:
    """A prompt as lines: what is unlike a body is named."""
    if prompt is None:
        return []
    named = ("api", "system", "stop", "positive", "negative", "schema")
    head = [f"{name}: {prompt[name]}" for name in named if prompt.get(name)]
    return [*head, *str(prompt.get("body", "")).splitlines()]
