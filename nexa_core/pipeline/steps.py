"""The steps of a pipeline, each written as one key: generate, check, judge or critic."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from nexa_core.pipeline.roles import Count, Name, Number, Sampling, Settings

Share = Annotated[Number, Field(ge=0, le=1)]


class InlinePrompt(Settings):
    """A prompt in the pipeline: `user`, perhaps `system`, for chat, or `text` for completions."""

    system: str | None = None
    user: str | None = None
    text: str | None = None
    stop: tuple[str, ...] = ()
    delimiters: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        if (self.user is None) == (self.text is None):
            raise ValueError(
                "an inline prompt is either {user: …}, {system: …, user: …} or {text: …}"
            )
        if self.system is not None and self.text is not None:
            raise ValueError("a system prompt needs `user`; `text` is for completions")
        return self


def _form_of(value: Any) -> str:
    return "name" if isinstance(value, str) else "inline"


Prompt = Annotated[
    Annotated[str, Tag("name")] | Annotated[InlinePrompt, Tag("inline")], Discriminator(_form_of)
]


class _Step(Settings):
    """A step reads and writes itself as `{kind: settings}`."""

    kind: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {cls.kind}:
            value = value[cls.kind]
        return {} if value is None else value

    @model_serializer(mode="wrap")
    def _wrap(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.kind: dump(self)}


class GenerateStep(_Step):
    """Asks `model` for a completion of `prompt` per row (and `samples` times), into a column.

    Without a prompt the row's `messages` are continued. `vary` draws one value per row and
    column, by seed.
    """

    kind: ClassVar[Literal["generate"]] = "generate"
    id: Name = "generate"
    model: str
    prompt: Prompt | None = None
    into: Name = "response"
    sampling: Sampling = Sampling()
    samples: Count = 1
    vary: dict[Name, tuple[Any, ...]] = Field(default_factory=dict)

    @field_validator("vary")
    @classmethod
    def _require_choices(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for column, choices in value.items():
            if not choices:
                raise ValueError(f"'{column}' has no values to draw from")
        return value


class CheckUse(Settings):
    """One check in a step: `empty`, or `{runaway: {delimiters: […], id: …, on_fail: flag}}`."""

    name: str
    id: Name
    on_fail: Literal["reject", "flag"] = "reject"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "id": _as_id(value)}
        if isinstance(value, dict) and len(value) == 1:
            ((name, options),) = value.items()
            if options is None or isinstance(options, dict):
                rest = dict(options or {})
                own = {key: rest.pop(key) for key in ("id", "on_fail") if key in rest}
                return {"name": name, "id": _as_id(str(name)), **own, "options": rest}
        raise ValueError("a check is written NAME or {NAME: {option: value}}")

    @model_serializer
    def _wrap(self) -> dict[str, Any]:
        return {self.name: {"id": self.id, "on_fail": self.on_fail, **self.options}}


def _as_id(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", name)


class CheckStep(_Step):
    """Runs deterministic checks over each row, in order."""

    kind: ClassVar[Literal["check"]] = "check"
    checks: Annotated[tuple[CheckUse, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        uses = value["check"] if isinstance(value, dict) and set(value) == {"check"} else value
        if isinstance(uses, dict) and set(uses) == {"checks"}:
            return uses
        return {"checks": uses if isinstance(uses, list | tuple) else [uses]}

    @model_serializer(mode="wrap")
    def _wrap(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.kind: dump(self)["checks"]}

    @property
    def id(self) -> str:
        """The ids of its checks, joined by `+`: a name for screens; scores are kept per check."""
        return "+".join(check.id for check in self.checks)


class Escalation(Settings):
    """A dearer model that is asked where the first one's score lies between two bounds, both in."""

    model: str
    between: tuple[Share, Share]

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.between[0] >= self.between[1]:
            raise ValueError("`between` is [low, high] with low under high")
        return self


class Judging(Settings):
    """How a judge scores, 0 to 1, by its method: `rubric` names its prompt file.

    `panel` are further roles that score the same, `combine` how their scores become one;
    `escalate` asks a dearer role near the threshold. `options` are the method's own.
    """

    model: str | None = None
    rubric: str | None = None
    method: str = "rubric"
    panel: tuple[str, ...] = ()
    combine: Literal["lowest", "mean", "median"] = "lowest"
    escalate: Escalation | None = None
    sampling: Sampling = Sampling()
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _require_a_rubric(self) -> Self:
        if self.method in ("rubric", "pairwise") and (self.model is None or self.rubric is None):
            raise ValueError("a judge needs a `model` and a `rubric`, or a `method` of your own")
        return self

    @property
    def roles(self) -> tuple[str, ...]:
        """Every model role that the judge may ask."""
        first = (self.model,) if self.model is not None else ()
        dearer = (self.escalate.model,) if self.escalate else ()
        return (*first, *self.panel, *dearer)


class JudgeStep(Judging, _Step):
    """Scores each row, 0 to 1, by a judge."""

    kind: ClassVar[Literal["judge"]] = "judge"
    id: Name = "judge"


class CriticStep(_Step):
    """Scores each row by the log-probabilities of single-token answers to a prompt, in nats."""

    kind: ClassVar[Literal["critic"]] = "critic"
    id: Name = "critic"
    model: str
    prompt: Prompt


def _kind_of(value: Any) -> str | None:
    if isinstance(value, dict) and len(value) == 1:
        return str(next(iter(value)))
    return getattr(value, "kind", None)


Step = Annotated[
    Annotated[GenerateStep, Tag("generate")]
    | Annotated[CheckStep, Tag("check")]
    | Annotated[JudgeStep, Tag("judge")]
    | Annotated[CriticStep, Tag("critic")],
    Discriminator(
        _kind_of,
        custom_error_type="step_kind",
        custom_error_message="a step is one key: generate, check, judge or critic",
    ),
]
KINDS = ("generate", "check", "judge", "critic")
