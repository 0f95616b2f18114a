"""A plugin whose hook takes an argument that the hook does not have."""

from nexa_core import hookimpl


@hookimpl
def on_event(evnt: object) -> None: ...
