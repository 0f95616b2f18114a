"""A plugin that hands over something else."""

from nexa_core import hookimpl


@hookimpl
def register_metrics() -> list[str]:
    return ["not a spec"]
