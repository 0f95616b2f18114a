"""The models that a pipeline's roles name, built when they are first needed."""

from __future__ import annotations

from nexa_core.errors import Place
from nexa_core.pipeline import Role
from nexa_core.plugins import Plugins
from nexa_core.protocols import Model, RemoteModel


class Models:
    """The models of a pipeline's roles, each built once, when it is first needed."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._built: dict[str, Model] = {}
        self.addresses: dict[str, str] = {}
        """Where addresses of roles really are, for those that are another in each process."""

    def get(self, role: Role, place: Place | None = None) -> Model:
        """The model a role names; equal roles share one."""
        if role.base_url in self.addresses:
            role = role.model_copy(update={"base_url": self.addresses[role.base_url]})
        key = role.model_dump_json(exclude={"sampling"})
        if key not in self._built:
            self._built[key] = self._plugins.build_model(role, place)
        return self._built[key]

    async def aclose(self) -> None:
        """Close the connections of every remote model."""
        for model in self._built.values():
            if isinstance(model, RemoteModel):
                await model.aclose()
