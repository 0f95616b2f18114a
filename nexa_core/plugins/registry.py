"""The specs of one kind by name: collected once, sorted, with the guilty named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from nexa_core.errors import (
    Place,
    PluginConflictError,
    PluginLoadError,
    UnknownNameError,
    suggest,
)
from nexa_core.plugins.loading import Broken, Plugin
from nexa_core.specs import FileSpec, Spec

__all__ = ["Offer", "Registry"]

S = TypeVar("S", bound="Spec | FileSpec")

_FIX = "`nexa plugins list` shows what is installed."


@dataclass(frozen=True)
class Offer(Generic[S]):
    """A spec and the plugin that offers it."""

    spec: S
    plugin: Plugin


class Registry(Generic[S]):
    """What all plugins offer through one hook. `noun` is what messages call it: "check"."""

    def __init__(
        self,
        noun: str,
        hook: str,
        spec_type: type[S],
        implementations: Sequence[tuple[Plugin, Any]],
        unloaded: Sequence[Broken] = (),
    ) -> None:
        self.noun, self.hook, self.spec_type = noun, hook, spec_type
        self._implementations = implementations
        self._unloaded = unloaded

    def get(self, name: str, place: Place | None = None) -> S:
        """The spec called `name`.

        Raises PluginConflictError when two plugins offer it, PluginLoadError when a broken plugin
        may be what is missing, else UnknownNameError with the nearest name.
        """
        return self.offer(name, place).spec

    def offer(self, name: str, place: Place | None = None) -> Offer[S]:
        """The spec called `name` with its plugin; errors as for `get`."""
        offers = self._offers.get(name, [])
        if len(offers) == 1:
            return offers[0]
        if offers:
            raise PluginConflictError(
                f"The {self.noun} '{name}' is offered by {_join(offers)}.",
                "Uninstall one, or name one plugin in NEXA_CORE_DISABLE_PLUGINS.",
                place,
            )
        guilty = [*self._unloaded, *self.broken]
        if guilty and not suggest(name, self._offers):
            raise PluginLoadError(
                f"No {self.noun} is called '{name}', and a plugin that may provide it is broken. "
                f"{guilty[0]}.",
                "Repair or uninstall it; `nexa plugins list` shows them all.",
                place,
            ) from guilty[0].cause
        raise UnknownNameError(self.noun, name, self._offers, place, _FIX)

    def names(self) -> list[str]:
        """Every name offered, sorted."""
        return list(self._offers)

    def specs(self) -> list[S]:
        """Every spec that one plugin alone offers, in the order of names."""
        return [offers[0].spec for offers in self._offers.values() if len(offers) == 1]

    def names_of(self, plugin: Plugin) -> list[str]:
        """The names a plugin offers, sorted."""
        return [n for n, offers in self._offers.items() if plugin in [o.plugin for o in offers]]

    def plugin_of(self, spec: S) -> Plugin | None:
        """The plugin that offers this very spec, None for one that was made elsewhere."""
        offers = self._offers.get(spec.name, [])
        return next((offer.plugin for offer in offers if offer.spec is spec), None)

    @property
    def conflicts(self) -> list[str]:
        """One sentence per name that several plugins offer."""
        return [
            f"The {self.noun} '{name}' is offered by {_join(offers)}."
            for name, offers in self._offers.items()
            if len(offers) > 1
        ]

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The plugins whose hook failed."""
        return tuple(self._collected[1])

    @property
    def _offers(self) -> dict[str, list[Offer[S]]]:
        return self._collected[0]

    @cached_property
    def _collected(self) -> tuple[dict[str, list[Offer[S]]], list[Broken]]:
        offers: dict[str, list[Offer[S]]] = {}
        broken: list[Broken] = []
        for plugin, call in self._implementations:
            try:
                specs = self._read(call())
            except Exception as cause:
                reason = f"{type(cause).__name__}: {cause}"
                broken.append(
                    Broken(
                        plugin.name, plugin.distribution, plugin.version, reason, self.hook, cause
                    )
                )
                continue
            for spec in specs:
                offers.setdefault(spec.name, []).append(Offer(spec, plugin))
        by_source = {n: sorted(found, key=lambda o: str(o.plugin)) for n, found in offers.items()}
        return dict(sorted(by_source.items())), broken

    def _read(self, result: Any) -> list[S]:
        """The specs a hook gave; a generator runs here, so that its failure has a name."""
        specs = list(result or ())
        for spec in specs:
            if not isinstance(spec, self.spec_type):
                wanted = self.spec_type.__name__
                raise TypeError(f"it gave {type(spec).__name__} where {wanted} is wanted")
        return specs


def _join(offers: Iterable[Offer[Any]]) -> str:
    return " and by ".join(str(offer.plugin) for offer in offers)
