"""A plugin with a hook that does not exist."""

from nexa_core import hookimpl


@hookimpl
def register_chekcs() -> list[object]:
    return []
