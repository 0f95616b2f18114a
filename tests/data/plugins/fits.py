"""A plugin as it should be: specs from a list and from a generator, and a watcher."""

from collections.abc import Iterator

from nexa_core import CheckSpec, Event, JudgeSpec, Need, hookimpl

SEEN: list[str] = []


@hookimpl
def register_checks() -> list[CheckSpec]:
    return [
        CheckSpec("zebra", "Last by name", lambda options: options),
        CheckSpec("apple", "Takes options", lambda options: options, options=_options),
        CheckSpec("breaks", "Cannot be built", lambda options: 1 / 0),
        CheckSpec("needy", "Needs more", lambda _: None, needs=(Need("absent_x", "big", "3 GB"),)),
    ]


@hookimpl
def register_judges() -> Iterator[JudgeSpec]:
    yield JudgeSpec("strict", "From a generator", lambda options: options)


@hookimpl
def on_event(event: Event) -> None:
    SEEN.append(type(event).__name__)


def _options() -> type:
    from pydantic import BaseModel, ConfigDict

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        limit: int = 3
        field: str | None = None
        raw_field: str | None = None

    return Options
