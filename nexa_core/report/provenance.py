"""Where the run comes from: pipeline, seed, code, packages, plugins, prompts, source, reviews, commands."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nexa_core.report.figures import show_count, show_share
from nexa_core.report.folder import Facts

__all__ = ["PromptText", "Provenance", "trace_provenance"]


@dataclass(frozen=True)
class PromptText:
    """A prompt as the run used it."""

    step: str
    name: str
    version: str
    hash: str
    text: str


@dataclass(frozen=True)
class Provenance:
    """All that is needed to make the run again, and to see that it is what it says."""

    facts: list[tuple[str, str]]
    packages: list[tuple[str, str]]
    plugins: list[tuple[str, str, str]]
    prompts: list[PromptText]
    pipeline: str
    chain: str
    chain_problems: tuple[str, ...]
    commands: list[tuple[str, str]]


def trace_provenance(facts: Facts) -> Provenance:
    """The provenance that run.json, the reviews and the dataset hold."""
    record = facts.record
    environment = record.get("environment") or {}
    return Provenance(
        facts=[(name, value) for name, value in _list_facts(facts, environment) if value],
        packages=sorted((str(k), str(v)) for k, v in (environment.get("packages") or {}).items()),
        plugins=[_show_plugin(plugin) for plugin in record.get("plugins") or ()],
        prompts=[_show_prompt(step, p) for step, p in (record.get("prompts") or {}).items()],
        pipeline=_write_yaml(json.dumps(record.get("pipeline") or {})),
        chain=_describe_chain(facts),
        chain_problems=facts.chain_problems,
        commands=_list_commands(facts),
    )


def _list_facts(facts: Facts, environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    record, source = facts.record, facts.record.get("source") or {}
    dataset = facts.dataset or {}
    return [
        ("run", facts.run.id),
        ("created", str(record.get("created_at", ""))),
        ("nexa", str(record.get("nexa_version", ""))),
        ("seed", str(record.get("seed", ""))),
        ("pipeline hash", str(record.get("pipeline_hash", ""))),
        ("gate hash", str(record.get("gate_hash") or "")),
        ("git commit", _describe_commit(environment)),
        ("Python", str(environment.get("python") or "")),
        ("platform", str(environment.get("platform") or "")),
        ("GPU", str(environment.get("gpu") or "none")),
        ("source", str(source.get("path") or "none: the pipeline makes its own rows")),
        ("source rows", show_count(source["rows"]) if source.get("rows") else ""),
        ("source fingerprint", str(source.get("fingerprint") or "")),
        *(
            (f"served {role}", _describe_servers(servers))
            for role, servers in facts.all_totals.served.items()
        ),
        ("review chain head", facts.reviews[-1].hash if facts.reviews else ""),
        ("review head in dataset", str(dataset.get("review_head") or "")),
    ]


def _describe_servers(servers: Mapping[str, int]) -> str:
    """Who served a role, and how much of it."""
    if len(servers) == 1:
        return next(iter(servers))
    total = sum(servers.values())
    return ", ".join(f"{server} {show_share(n / total)}" for server, n in servers.items())


def _describe_commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("git_commit")
    if not commit:
        return "not run from a git checkout"
    return f"{commit}{' with uncommitted changes' if environment.get('git_dirty') else ''}"


def _show_plugin(plugin: Mapping[str, Any]) -> tuple[str, str, str]:
    origin = f"{plugin.get('distribution') or 'workspace'} {plugin.get('version') or ''}"
    return str(plugin.get("name")), origin.strip(), str(plugin.get("hash") or "")


def _show_prompt(step: str, prompt: Mapping[str, Any]) -> PromptText:
    text = str(prompt.get("body") or prompt.get("text") or "")
    if prompt.get("system"):
        text = f"[system]\n{prompt['system']}\n\n[user]\n{text}"
    return PromptText(
        step,
        str(prompt.get("name") or step),
        str(prompt.get("version") or ""),
        str(prompt.get("hash") or ""),
        text,
    )


def _describe_chain(facts: Facts) -> str:
    number = len(facts.reviews)
    if facts.chain_problems:
        return "The chain of review records is broken."
    if not number:
        return "No decision was recorded."
    records = "1 review record" if number == 1 else f"{number} review records"
    return f"{records}; every hash of the chain is as it was written."


def _list_commands(facts: Facts) -> list[tuple[str, str]]:
    commands = [("The run as it was started", _join_command(facts.record.get("command") or []))]
    run = shlex.quote(facts.run.id)
    if facts.dataset and facts.dataset.get("command"):
        commands.append(("Package the dataset again", str(facts.dataset["command"])))
    if facts.reviews:
        commands.append(("Decide again from the records", f"nexa gate replay {run}"))
    if facts.status.get("status") != "done":
        commands.append(("Go on", f"nexa resume {run}"))
    commands.append(("Write this report again", f"nexa report {run}"))
    return [(what, command) for what, command in commands if command]


def _join_command(command: list[Any]) -> str:
    if not command:
        return ""
    program = "nexa" if Path(str(command[0])).name == "__main__.py" else str(command[0])
    return shlex.join([program, *map(str, command[1:])])


@lru_cache(maxsize=16)
def _write_yaml(value: str) -> str:
    """A value, given as JSON, as YAML; a third of a report's time, and a run that goes on has many."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(json.loads(value), stream)
    return stream.getvalue()
