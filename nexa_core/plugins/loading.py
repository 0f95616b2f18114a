"""Finds plugins by entry point and in the workspace; a broken one breaks alone."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from nexa_core.decorators import offer_decorated
from nexa_core.workspace import Workspace

__all__ = [
    "Broken",
    "Plugin",
    "hash_code",
    "load_entry_points",
    "load_workspace_plugins",
]

GROUP = "nexa"
DISABLED = "NEXA_CORE_DISABLE_PLUGINS"
WORKSPACE = "workspace"
"""Stands for the distribution of a plugin that lies in the workspace."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that was imported: its name, what brought it, and its module."""

    name: str
    distribution: str
    version: str
    module: ModuleType = field(repr=False, compare=False)

    @property
    def source(self) -> str:
        """What a person would uninstall: `nexa-core 0.1.0`, or the file in the workspace."""
        if self.distribution == WORKSPACE:
            return str(self.module.__file__)
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


@dataclass(frozen=True)
class Broken:
    """A plugin, or one hook of it, that cannot be used, and why."""

    name: str
    distribution: str
    version: str
    reason: str
    hook: str | None = None
    cause: Exception | None = field(default=None, repr=False, compare=False)

    def plugin_is(self, plugin: Plugin) -> bool:
        """Whether a hook of this plugin is what broke."""
        return (self.name, self.distribution) == (plugin.name, plugin.distribution)

    def __str__(self) -> str:
        what = f"Plugin '{self.name}' ({self.distribution} {self.version})".replace(" )", ")")
        where = f": its hook '{self.hook}' failed" if self.hook else " was not loaded"
        return f"{what}{where}: {self.reason}"


def load_entry_points(disabled: Iterable[str]) -> Iterator[Plugin | Broken]:
    """Each plugin that an installed distribution offers, in the order of names.

    A module that two distributions offer is loaded once, for the first.
    """
    seen: set[str] = set()
    for point, distribution, version in _offered():
        if point.name in disabled or point.value in seen:
            continue
        seen.add(point.value)
        try:
            yield Plugin(point.name, distribution, version, point.load())
        except Exception as cause:
            yield Broken(point.name, distribution, version, _say(cause), cause=cause)


def load_workspace_plugins(
    workspace: Workspace, disabled: Iterable[str], announce: Callable[[str], None]
) -> Iterator[Plugin | Broken]:
    """Each `plugins/x.py` and `plugins/x/__init__.py` of a marked workspace, in the order of names.

    A module that an entry point provides is left to it. Code whose hash is new here is announced
    before it runs.
    """
    if not workspace.marked or not workspace.plugins_path.is_dir():
        return
    provided = {point.value.partition(":")[0].partition(".")[0] for point, *_ in _offered()}
    for name, path in sorted(_modules_in(workspace.plugins_path)):
        if name in disabled or name in provided:
            continue
        _announce_new(workspace, name, path, announce)
        try:
            module = _import_file(name, path)
            offer_decorated(module)
            yield Plugin(name, WORKSPACE, "", module)
        except Exception as cause:
            yield Broken(name, WORKSPACE, "", f"{_say(cause)} in {path}", cause=cause)


def read_disabled() -> frozenset[str]:
    """The plugin names that the environment variable NEXA_CORE_DISABLE_PLUGINS lists."""
    return frozenset(filter(None, re.split(r"[,\s]+", os.environ.get(DISABLED, ""))))


def hash_code(plugin: Plugin) -> str:
    """`hash_files` of a plugin; a workspace's is loaded anew each time, and is hashed anew."""
    file = plugin.module.__file__
    if not file:
        return ""
    return hash_files(Path(file)) if plugin.distribution == WORKSPACE else _hash_once(Path(file))


@cache  # a process goes on with the installed code that it loaded
def _hash_once(path: Path) -> str:
    return hash_files(path)


def hash_files(path: Path) -> str:
    """SHA-256 of a plugin's Python files: of the whole folder for a package, with their names."""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path.parent).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def _modules_in(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        file = path / "__init__.py" if path.is_dir() else path
        name = path.stem if path.suffix == ".py" else path.name
        if file.suffix == ".py" and file.is_file() and name.isidentifier() and name[0] != "_":
            yield name, file


def _import_file(name: str, path: Path) -> ModuleType:
    """The module in a file, importable by its name so that it can import its own parts."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) != str(path):
        if not hasattr(loaded, "__nexa_workspace__"):
            raise ImportError(f"a module '{name}' is loaded already: give the plugin another name")
    elif loaded is None and importlib.util.find_spec(name) is not None:
        raise ImportError(f"a module '{name}' is installed already: give the plugin another name")
    inside = f"{name}."
    for stale in [one for one in sys.modules if one == name or one.startswith(inside)]:
        del sys.modules[stale]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is no Python file")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__nexa_workspace__"] = True
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _announce_new(
    workspace: Workspace, name: str, path: Path, announce: Callable[[str], None]
) -> None:
    """Say that code runs from the workspace, once for every content of it."""
    memory = workspace.artifacts_path / ".plugins.json"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    fingerprint = hash_files(path)
    if known.get(name) == fingerprint:
        return
    announce(
        f"Loading the workspace plugin '{name}' from {path}"
        f" (new or changed; sha256 {fingerprint[:12]}). --no-workspace-plugins turns this off."
    )
    try:
        memory.parent.mkdir(exist_ok=True)
        memory.write_text(json.dumps({**known, name: fingerprint}, indent=1, sort_keys=True))
    except OSError:
        return  # a read-only workspace is announced every time


Offer = tuple[EntryPoint, str, str]


def _offered() -> tuple[Offer, ...]:
    """Every entry point with its distribution and version, in the order of names."""
    return _scan(tuple(_date(Path(path).absolute()) for path in sys.path))


@lru_cache(maxsize=1)
def _scan(_folders: tuple[tuple[Path, int], ...]) -> tuple[Offer, ...]:
    """What is installed, read again only where a folder of `sys.path` has changed."""
    found = [(point, *_distribution(point)) for point in entry_points(group=GROUP)]
    return tuple(sorted(found, key=lambda offer: (offer[0].name, *offer[1:])))


def _date(folder: Path) -> tuple[Path, int]:
    """A folder and when something was last put into it or taken away, in nanoseconds."""
    try:
        return folder, folder.stat().st_mtime_ns
    except OSError:
        return folder, 0


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def _say(cause: Exception) -> str:
    return f"{type(cause).__name__}: {cause}"
