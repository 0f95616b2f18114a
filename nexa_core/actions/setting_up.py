"""Making a workspace, and finding out what this machine has and lacks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nexa_core.actions.endpoints import Endpoint, ask_endpoints
from nexa_core.actions.machine import Finding, examine_command, examine_machine
from nexa_core.errors import NexaError
from nexa_core.plugins import Plugins, write_install_line
from nexa_core.shipped import scaffold
from nexa_core.specs import Need, Spec
from nexa_core.workspace import Workspace

__all__ = ["Finding", "examine", "init"]

KNOWN_KEYS = (
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "HF_TOKEN",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
)


def init(target: Path) -> dict[str, Any]:
    """Make a workspace in a folder; what was there is kept. Paths are relative to it."""
    made = scaffold(target)
    listed: dict[str, list[str]] = {"created": [], "kept": []}
    for path, outcome in made:
        name = path.relative_to(target).as_posix()
        listed[outcome].append(f"{name}/" if path.is_dir() else name)
    return {"workspace": str(target.resolve()), **listed}


def examine(workspace: Workspace, plugins: Plugins) -> list[Finding]:
    """Everything `nexa doctor` looks at, in its order. No key's value is ever read out."""
    pipelines = list(_read_pipelines(workspace))
    return [
        *examine_machine(workspace),
        *_examine_plugins(plugins),
        *_examine_extras(plugins),
        *_examine_keys(workspace, pipelines),
        *(finding for one in pipelines if (finding := one.finding)),
        *_examine_endpoints(pipelines),
        *examine_command(),
    ]


@dataclass(frozen=True)
class _Read:
    """A pipeline of the workspace, or why it cannot be read."""

    name: str
    roles: dict[str, Any]
    error: str = ""

    @property
    def finding(self) -> Finding | None:
        if not self.error:
            return None
        return Finding("pipelines", self.name, "problem", self.error)


def _read_pipelines(workspace: Workspace) -> Iterator[_Read]:
    from nexa_core.pipeline import load_pipeline

    for path in sorted(workspace.pipelines_path.glob("*.yaml")):
        try:
            yield _Read(path.stem, dict(load_pipeline(path).models))
        except NexaError as error:
            yield _Read(path.stem, {}, str(error))


def _examine_plugins(plugins: Plugins) -> Iterator[Finding]:
    for warning in plugins.warnings:
        yield Finding(
            "plugins",
            "plugin",
            "problem",
            warning,
            fix="Repair or uninstall it: nexa plugins list.",
        )


def _examine_extras(plugins: Plugins) -> Iterator[Finding]:
    """A finding per extra that some installed plugin asks for, with what needs it."""
    wanted: dict[tuple[str, str], dict[str, tuple[Need, list[str]]]] = {}
    for registry in plugins.registries.values():
        for spec in registry.specs():
            plugin = registry.plugin_of(spec) if isinstance(spec, Spec) else None
            distribution = plugin.distribution if plugin else "nexa-core"
            for need in getattr(spec, "needs", ()):
                modules = wanted.setdefault((distribution, need.extra), {})
                modules.setdefault(need.module, (need, []))[1].append(
                    f"{registry.noun} {spec.name}"
                )
    for (distribution, extra), modules in sorted(wanted.items()):
        yield _describe_extra(distribution, extra, list(modules.values()))


def _describe_extra(distribution: str, extra: str, wanted: list[tuple[Need, list[str]]]) -> Finding:
    needs = [need for need, _ in wanted]
    users = list(dict.fromkeys(user for _, each in wanted for user in each))
    absent = [need for need in needs if not _is_importable(need.module)]
    there = [f"{n.module} {_version(n.module)}".strip() for n in needs if n not in absent]
    enables = ", ".join(users)
    if not absent:
        return Finding("extras", extra, "ok", ", ".join(there), enables)
    lacks = ", ".join(f"{need.module} ({need.size})" for need in absent)
    line = write_install_line(absent, distribution)
    return Finding("extras", extra, "missing", f"without {lacks}", enables, line)


def _examine_keys(workspace: Workspace, pipelines: Iterable[_Read]) -> Iterator[Finding]:
    """Names of keys that are set; those that a pipeline names and nobody set are missing."""
    environment = dict(os.environ)
    from_file = set(workspace.load_environment(environment))
    asked: dict[str, list[str]] = {}
    for pipeline in pipelines:
        for role in pipeline.roles.values():
            if role.api_key_env:
                asked.setdefault(role.api_key_env, []).append(pipeline.name)
    for name in sorted({*KNOWN_KEYS, *asked}):
        if environment.get(name):
            yield Finding("keys", name, "ok", "set in .env" if name in from_file else "set")
        elif name in asked:
            users = f"pipeline {', '.join(dict.fromkeys(asked[name]))}"
            yield Finding(
                "keys",
                name,
                "missing",
                "not set",
                users,
                f"Put {name}=… into the environment or .env.",
            )


def _examine_endpoints(pipelines: Iterable[_Read]) -> Iterator[Finding]:
    asked: dict[str, list[str]] = {}
    for pipeline in pipelines:
        for name, role in pipeline.roles.items():
            if role.base_url:
                asked.setdefault(role.base_url, []).append(f"{pipeline.name}.{name}")
    for endpoint in ask_endpoints(asked):
        yield _describe_endpoint(endpoint, ", ".join(asked[endpoint.url]))


def _describe_endpoint(endpoint: Endpoint, users: str) -> Finding:
    if endpoint.error:
        return Finding(
            "endpoints",
            endpoint.url,
            "missing",
            endpoint.error,
            users,
            "Start the server, or mend base_url.",
        )
    return Finding(
        "endpoints", endpoint.url, "ok", f"answers in {endpoint.seconds * 1e3:.0f} ms", users
    )


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return ""
