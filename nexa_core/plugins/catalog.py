"""What all plugins offer together: by kind and name, as a list, as watchers of events."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from nexa_core import hookspecs
from nexa_core.errors import NexaError, PipelineFileError, Place, suggest
from nexa_core.events import Event
from nexa_core.plugins.building import build_spec, read_options
from nexa_core.plugins.loading import (
    Broken,
    Plugin,
    hash_code,
    load_entry_points,
    load_workspace_plugins,
    read_disabled,
)
from nexa_core.plugins.registry import Registry
from nexa_core.specs import (
    CheckSpec,
    ExporterSpec,
    FileSpec,
    JudgeOrder,
    JudgeSpec,
    MetricSpec,
    ModelSpec,
    ReviewerSpec,
    ScorerSpec,
    SourceSpec,
    Spec,
    TrainerSpec,
)
from nexa_core.validation import Locate
from nexa_core.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from nexa_core.pipeline import InlinePrompt, Role
    from nexa_core.prompts import Prompt
    from nexa_core.protocols import Judge, Model

__all__ = ["Listing", "Plugins", "load_plugins"]

S = TypeVar("S", bound="Spec | FileSpec")

COMPATIBLE = "openai-compatible"
"""The provider that serves any base_url."""


@dataclass(frozen=True)
class Listing:
    """A line of `nexa plugins list`. `specs` maps a kind ("checks") to the names offered."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    specs: Mapping[str, tuple[str, ...]] | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line as `--json` prints it."""
        return asdict(self)


class _Manager(pluggy.PluginManager):
    """Looks for hooks among a module's functions alone, not at whatever else it has imported."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if isinstance(plugin, ModuleType) and not inspect.isroutine(vars(plugin).get(name)):
            return None
        return super().parse_hookimpl_opts(plugin, name)


class Plugins:
    """Every plugin that loaded, its specs by kind; a hook is called when its kind is asked for."""

    def __init__(
        self, found: list[Plugin | Broken], workspace: Workspace, announce: Callable[[str], None]
    ) -> None:
        self.workspace = workspace
        self._announce = announce
        self._manager = _Manager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._unloaded = [one for one in found if isinstance(one, Broken)]
        self._loaded: dict[str, Plugin] = {}
        for plugin in found:
            if isinstance(plugin, Plugin):
                self._register(plugin)
        self._manager.check_pending()
        self._watchers = list(self._implementations("on_event"))
        self._muted: set[str] = set()
        self.models = self._registry("model provider", "register_models", ModelSpec)
        self.judges = self._registry("judge", "register_judges", JudgeSpec)
        self.checks = self._registry("check", "register_checks", CheckSpec)
        self.metrics = self._registry("metric", "register_metrics", MetricSpec)
        self.reviewers = self._registry("reviewer", "register_reviewers", ReviewerSpec)
        self.trainers = self._registry("training method", "register_trainers", TrainerSpec)
        self.scorers = self._registry("scorer", "register_scorers", ScorerSpec)
        self.sources = self._registry("source", "register_sources", SourceSpec)
        self.exporters = self._registry("format", "register_exporters", ExporterSpec)
        self.gate_files = self._registry("gate", "register_gates", FileSpec)
        self.prompt_files = self._registry("prompt", "register_prompts", FileSpec)

    @property
    def registries(self) -> dict[str, Registry[Any]]:
        """The registry of every kind, by its plural."""
        everything = vars(self).values()
        found = [one for one in everything if isinstance(one, Registry)]
        return {one.hook.removeprefix("register_"): one for one in found}

    def build(
        self,
        spec: Spec,
        options: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        place: Place | Locate | None = None,
        error: type[NexaError] = PipelineFileError,
    ) -> Any:
        """What the spec builds from a user's options, the undeclared ones taken from `facts`.

        `place` is where the use stands, or a function from a key path of the options to its place.
        Raises `error` for bad options, MissingExtraError, or the kind's own when `build` fails.
        """
        registry = self._registry_of(spec)
        plugin = registry.plugin_of(spec)
        at = place(()) if callable(place) else place
        settings = read_options(spec, options, facts or {}, registry.noun, place, error)
        return build_spec(spec, settings, registry.noun, plugin, at)

    def build_model(self, role: Role, place: Place | None = None) -> Model:
        """The model of a role, by the provider before the first slash of its reference.

        A base_url whose provider nobody knows leads to a server that speaks OpenAI's protocol.
        """
        foreign = role.base_url is not None and role.provider not in self.models.names()
        offer = self.models.offer(COMPATIBLE if foreign else role.provider, place)
        model: Model = build_spec(offer.spec, role, self.models.noun, offer.plugin, place)
        return model

    def build_judge(
        self, spec: JudgeSpec, order: JudgeOrder, options: Mapping[str, Any], place: Locate
    ) -> Judge:
        """The judge that a step asks for; errors as in `build`."""
        noun = self.judges.noun
        settings = read_options(spec, options, {}, noun, place, PipelineFileError)
        plugin = self.judges.plugin_of(spec)
        judge: Judge = build_spec(spec, replace(order, options=settings), noun, plugin, place(()))
        return judge

    def file(self, kind: str, name: str, place: Place | None = None) -> Path:
        """The file of a gate, prompt or pipeline: the workspace's, a plugin's, or the shipped."""
        offered = self._offered_files(kind)
        if kind in ("gate", "prompt"):
            registry = self.gate_files if kind == "gate" else self.prompt_files
            if name in registry.names() and name not in offered:
                own = self.workspace.name_files(kind).get(name)
                return own or registry.get(name, place).path
        return self.workspace.find_file(kind, name, offered, place)

    def prompt(
        self, prompt: str | InlinePrompt, name: str = "inline", place: Place | None = None
    ) -> Prompt:
        """The prompt that a step asks for: by the name of a file, or inline, then called `name`."""
        from nexa_core.prompts import inline_prompt, read_prompt

        if isinstance(prompt, str):
            return read_prompt(self.file("prompt", prompt, place), prompt)
        return inline_prompt(prompt, name, place)

    def notify(self, event: Event) -> None:
        """Show an event to every watcher; one that fails is reported once, and the others go on."""
        for plugin, call in self._watchers:
            try:
                call(event)
            except Exception as cause:
                if plugin.name not in self._muted:
                    self._muted.add(plugin.name)
                    what = f"failed on {type(event).__name__}: {type(cause).__name__}: {cause}"
                    self._announce(f"Plugin {plugin} {what}. The run goes on.")

    @property
    def warnings(self) -> list[str]:
        """What is broken or in conflict, one sentence each; calls every hook not called yet."""
        failed = [str(one) for one in self._unloaded]
        for registry in self.registries.values():
            failed += [*map(str, registry.broken), *registry.conflicts]
        return failed

    def listing(self) -> list[Listing]:
        """Every plugin, broken ones too, in the order of names."""
        lines = [self._list(plugin) for plugin in self._loaded.values()]
        lines += [
            Listing(one.name, one.distribution, one.version, error=one.reason)
            for one in self._unloaded
        ]
        return sorted(lines, key=lambda line: (line.name, line.distribution))

    def fingerprint(self) -> list[dict[str, str]]:
        """Name, distribution, version and hash of the code of every loaded plugin, for run.json."""
        return [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "hash": hash_code(plugin),
            }
            for plugin in sorted(self._loaded.values(), key=str)
        ]

    def _list(self, plugin: Plugin) -> Listing:
        hooks = tuple(sorted(h.name for h in self._manager.get_hookcallers(plugin.module) or ()))
        kinds = self.registries.items()
        offered = {kind: tuple(found) for kind, one in kinds if (found := one.names_of(plugin))}
        failed = [one for _, r in kinds for one in r.broken if one.plugin_is(plugin)]
        error = failed[0].reason if failed else None
        return Listing(plugin.name, plugin.distribution, plugin.version, hooks, offered, error)

    def _register(self, plugin: Plugin) -> None:
        """Hand a plugin to pluggy; one whose hooks do not fit is kept out, with the reason."""
        key = str(plugin)
        try:
            self._manager.register(plugin.module, key)
            reason = self._find_misfit(plugin)
        except (pluggy.PluginValidationError, ValueError) as cause:
            reason = " ".join(str(cause).split())
        if reason:
            if self._manager.get_plugin(key) is not None:
                self._manager.unregister(name=key)
            self._unloaded.append(Broken(plugin.name, plugin.distribution, plugin.version, reason))
        else:
            self._loaded[key] = plugin

    def _find_misfit(self, plugin: Plugin) -> str | None:
        callers = self._manager.get_hookcallers(plugin.module) or []
        if not callers:
            return "it implements no hook: mark its functions with @hookimpl"
        for caller in callers:
            if not caller.has_spec():
                known = [name for name in vars(hookspecs) if name.startswith(("register_", "on_"))]
                near = suggest(caller.name, known)
                hint = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(known))}"
                return f"there is no hook '{caller.name}': {hint}"
            for one in caller.get_hookimpls():
                if one.plugin is plugin.module and (one.wrapper or one.hookwrapper):
                    return f"'{caller.name}' is a wrapper, and hooks here are never wrapped"
        return None

    def _registry(self, noun: str, hook: str, spec_type: type[S]) -> Registry[S]:
        return Registry(noun, hook, spec_type, list(self._implementations(hook)), self._unloaded)

    def _registry_of(self, spec: Spec) -> Registry[Any]:
        return next(one for one in self.registries.values() if one.spec_type is type(spec))

    def _implementations(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        """Plugin and function of each implementation, in the order of plugin names."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        for one in sorted(found, key=lambda one: str(one.plugin_name)):
            takes_event = one.argnames or not hook.startswith("on_")
            call = one.function if takes_event else _ignore_argument(one.function)
            yield self._loaded[one.plugin_name], call

    def _offered_files(self, kind: str) -> dict[str, Path]:
        registries = {"gate": self.gate_files, "prompt": self.prompt_files}
        return {s.name: s.path for s in registries[kind].specs()} if kind in registries else {}


def load_plugins(
    workspace: Workspace | None = None,
    allow_workspace_plugins: bool = True,
    announce: Callable[[str], None] | None = None,
) -> Plugins:
    """Every installed plugin, and those of the workspace (by default the current folder's).

    A broken plugin is a warning; it becomes an error when a name is asked for that it may provide.
    `announce` gets each line for the user's eyes; by default it goes to stderr.
    """
    workspace = workspace or find_workspace()
    tell = announce or _tell
    disabled = read_disabled()
    found = list(load_entry_points(disabled))
    if allow_workspace_plugins:
        found += load_workspace_plugins(workspace, disabled, tell)
    return Plugins(found, workspace, tell)


def _ignore_argument(call: Callable[[], object]) -> Callable[[object], object]:
    return lambda _: call()


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
