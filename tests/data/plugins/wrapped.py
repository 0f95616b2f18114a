"""A plugin that would wrap a hook."""

from collections.abc import Generator
from typing import Any

from nexa_core import hookimpl


@hookimpl(wrapper=True)
def register_checks() -> Generator[None, Any, Any]:
    return (yield)
