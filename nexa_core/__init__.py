"""nexa: turns a teacher model, or a raw base model, into a trained student, and proves each step first.

Everything a plugin may use is a name of this root; each is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexa_core.errors import *
    from nexa_core.events import *
    from nexa_core.hookspecs import hookimpl as hookimpl
    from nexa_core.protocols import *
    from nexa_core.records import *
    from nexa_core.specs import *

_HOMES = ("errors", "records", "specs", "protocols", "events")


def __getattr__(name: str) -> Any:
    if name == "hookimpl":
        return import_module("nexa_core.hookspecs").hookimpl
    for home in _HOMES:
        module = import_module(f"nexa_core.{home}")
        if name in module.__all__:
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module 'nexa_core' has no attribute '{name}'")
