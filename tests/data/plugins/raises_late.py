"""A plugin whose generator fails after its first spec, and whose watcher fails."""

from collections.abc import Iterator

from nexa_core import CheckSpec, hookimpl


@hookimpl
def register_checks() -> Iterator[CheckSpec]:
    yield CheckSpec("early", "Comes first", lambda _: None)
    raise RuntimeError("no more")


@hookimpl
def on_event() -> None:
    raise RuntimeError("the watcher fell asleep")
