"""A plugin that offers a check another plugin offers too."""

from nexa_core import CheckSpec, hookimpl


@hookimpl
def register_checks() -> list[CheckSpec]:
    return [CheckSpec("apple", "Another apple", lambda _: None)]
