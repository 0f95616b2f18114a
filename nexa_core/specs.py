"""What a plugin hands over: frozen specs with a name, a summary, an options class and a `build`.

`build` is called once per use with validated options and is where heavy imports belong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nexa_core.protocols import (
    Check,
    Exporter,
    Judge,
    Metric,
    Model,
    Reviewer,
    Rubric,
    Scorer,
    SetCheck,
    Source,
    Trainer,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "CheckSpec",
    "ExporterSpec",
    "FileSpec",
    "JudgeOrder",
    "JudgeSpec",
    "MetricSpec",
    "ModelSpec",
    "Need",
    "ReviewerSpec",
    "ScorerSpec",
    "SourceSpec",
    "Spec",
    "TrainerSpec",
]

_NAME = re.compile(r"[a-z][a-z0-9_]*([-/.][a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Need:
    """An optional import a spec needs, the extra that brings it, and its download size."""

    module: str
    extra: str
    size: str


@dataclass(frozen=True, slots=True)
class Spec:
    """What every spec has. `options` is a pydantic class, None where there is nothing to set."""

    name: str
    summary: str
    build: Callable[..., Any]
    options: Callable[[], type[BaseModel]] | None = None
    """Returns the options class, so that listing plugins does not import pydantic.

    A field with `json_schema_extra={"column": True}` names columns, which are looked for before a run begins.
    """
    needs: tuple[Need, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"'{self.name}' is no spec name: use a-z, 0-9, _ and start with a letter"
            )


@dataclass(frozen=True, slots=True)
class ModelSpec(Spec):
    """A provider: `build(role)` gets the pipeline's validated role and returns the model."""

    build: Callable[..., Model]


@dataclass(frozen=True, slots=True)
class JudgeOrder:
    """What a judge is built from: the step's settings, its rubric, and the columns it reads.

    `rubric` is None for a method that needs none. `question` and `answer` are column names;
    `question` is None where rows have no such column.
    `options` are an instance of the spec's options class, or None where it has none.
    """

    id: str
    rubric: Rubric | None
    roles: tuple[str, ...]
    question: str | None
    answer: str
    combine: str = "lowest"
    escalate: tuple[float, float] | None = None
    """The last role is asked only where the others' score lies between these, both in."""
    options: Any = None


@dataclass(frozen=True, slots=True)
class JudgeSpec(Spec):
    """A judge's method: `build(order)` gets a JudgeOrder."""

    build: Callable[..., Judge]


@dataclass(frozen=True, slots=True)
class CheckSpec(Spec):
    """A check; with `over="set"` it depends on other rows and is folded in shard order.

    `waits` says that a row check takes long or waits for something outside this process: it is
    asked in a thread, so that calls go on meanwhile. `mixed` says that a row check looks at rows of
    `package.mix` too, which no other check does.
    """

    build: Callable[..., Check | SetCheck]
    over: Literal["row", "set"] = "row"
    waits: bool = False
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class MetricSpec(Spec):
    """A metric: `population` says in words which rows count.

    A `rate` has bool outcomes; a `median` has numbers and is tested as the share of rows under
    the threshold; a `mean` has numbers and is reported only.
    """

    build: Callable[..., Metric]
    population: str = "every row"
    aggregate: Literal["rate", "median", "mean"] = "rate"


@dataclass(frozen=True, slots=True)
class ReviewerSpec(Spec):
    """A reviewer. Where it `asks` a model, its option `model` names the role it asks, and where it
    has a `prompt`, its option `prompt` may name another file; its options then declare a field
    `instructions`, which is given the prompt.
    """

    build: Callable[..., Reviewer]
    asks: bool = False
    prompt: str | None = None
    freeze: Callable[[Mapping[str, Any], Path], Mapping[str, Any]] | None = None
    """Reads the files that the options name, once, when a run begins: (options, the workspace's
    folder) to options that say the same without them."""


@dataclass(frozen=True, slots=True)
class TrainerSpec(Spec):
    build: Callable[..., Trainer]


@dataclass(frozen=True, slots=True)
class ScorerSpec(Spec):
    build: Callable[..., Scorer]


@dataclass(frozen=True, slots=True)
class SourceSpec(Spec):
    """A source that a plugin ships, named by the path a pipeline writes."""

    build: Callable[..., Source]


@dataclass(frozen=True, slots=True)
class ExporterSpec(Spec):
    build: Callable[..., Exporter]


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A gate or prompt file that a plugin ships: found by `name` after the workspace's own."""

    name: str
    path: Path
