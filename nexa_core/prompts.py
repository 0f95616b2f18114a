"""Prompts: Markdown with front matter, or inline; parsed, fingerprinted and rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nexa_core.conversations import ConversationError, read_messages, read_tools
from nexa_core.documents import parse_yaml, read_text
from nexa_core.errors import Place, PromptFileError
from nexa_core.records import Message, Row, content_hash
from nexa_core.templates import TemplateError, Text, compile_text
from nexa_core.validation import validate

if TYPE_CHECKING:
    from nexa_core.pipeline import InlinePrompt

__all__ = ["CONTINUE", "Prompt", "inline_prompt", "parse_prompt", "read_prompt"]

Api = Literal["chat", "completions"]

_FENCE = "---"
_OPTION_NAMES = frozenset({"a", "b"})
"""What a critic's template calls its two options; they are given at rendering."""


_RUBRIC_NAMES = frozenset({"criteria", "flags", "rule"})
"""What a rubric's template is given: its criteria and flags as text, and the rule about data."""


class FrontMatter(BaseModel):
    """The keys between the two fences of a prompt file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*$")]
    version: Annotated[int, Field(strict=True, ge=1)]
    summary: str = ""
    api: Api = "chat"
    inputs: tuple[str, ...] = ()
    system: str | None = None
    stop: tuple[str, ...] = ()
    delimiters: tuple[str, ...] = ()
    positive: str | None = None
    negative: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    criteria: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = Field(
        default_factory=dict
    )
    flags: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.positive is None) != (self.negative is None):
            raise ValueError("`positive` and `negative` go together: a critic's two answers")
        if self.system is not None and self.api == "completions":
            raise ValueError("`system` is for chat; write it into the text for completions")
        return self


@dataclass(frozen=True)
class Prompt:
    """One prompt. `body` is the template: the user's message for chat, all for completions.

    `inputs` are the columns it needs. `positive` and `negative` are a critic's two answers. A rubric
    has `criteria`, each scored 0 to 1, and `flags` that may be raised: name to what it means.
    `schema` is the JSON schema of the reply. One that `continues` has no template: the row's own
    `messages` are sent. `text` is the file as it was read.
    """

    name: str
    body: str
    version: int = 1
    api: Api = "chat"
    system: str | None = None
    inputs: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    delimiters: tuple[str, ...] = ()
    positive: str | None = None
    negative: str | None = None
    schema: Mapping[str, Any] | None = None
    criteria: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    continues: bool = False
    summary: str = ""
    text: str = field(default="", repr=False)
    place: Place | None = None
    body_line: int | None = None
    """The line of the file at which the body begins; None where only `place` is known."""

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what determines the rendering and the reply asked for, not of names."""
        parts = (self.api, self.system, self.body, self.stop, self.positive, self.negative)
        rubric = [dict(self.criteria), dict(self.flags)] if self.criteria else []
        how = ["continues"] if self.continues else []
        return content_hash([*parts, self.schema, *rubric, *how])

    @cached_property
    def _templates(self) -> tuple[Text | None, Text]:
        system = self._compile(self.system, self.place) if self.system else None
        return system, self._compile(self.body)

    def _compile(self, source: str, place: Place | None = None) -> Text:
        try:
            return compile_text(source)
        except TemplateError as cause:
            raise PromptFileError(
                f"Prompt '{self.name}' is no template: {cause}.",
                "Prompts insert {{ column }}, choose with {% if %} and repeat with {% for %}.",
                place or self._line(cause.line),
            ) from cause

    @property
    def variables(self) -> frozenset[str]:
        """Every name the templates take from a row or from the caller."""
        system, body = self._templates
        return body.variables | (system.variables if system else frozenset())

    @cached_property
    def _needed(self) -> frozenset[str]:
        return self.variables | frozenset(self.inputs)

    def check(self) -> Prompt:
        """Itself, compiled and with its inputs compared to its templates; else PromptFileError."""
        given = _OPTION_NAMES if self.positive is not None else frozenset()
        given |= _RUBRIC_NAMES if self.criteria else frozenset()
        unknown = sorted(self.variables - set(self.inputs) - given)
        if unknown:
            raise PromptFileError(
                f"Prompt '{self.name}' uses '{unknown[0]}', which is not among its inputs.",
                f"Add it: `inputs: [{', '.join([*self.inputs, *unknown])}]`.",
                self._line_of(unknown[0]),
            )
        return self

    def render(self, row: Row, **extra: Any) -> str | tuple[Message, ...]:
        """The text (completions) or the messages (chat) for a row; `extra` goes over its columns.

        Raises PromptFileError, naming the row's columns, when one it needs is missing or null.
        """
        values = {**row, **extra} if extra else row
        if not self._needed <= values.keys():
            raise self._missing(min(self._needed - values.keys()), values)
        if self.continues:
            return self._continue(values["messages"])
        system, body = self._templates
        try:
            user = body.render(values)
            if self.api == "completions":
                return user
            head = (Message("system", system.render(values)),) if system else ()
            return (*head, Message("user", user))
        except TemplateError as cause:
            raise self._failed(cause, values) from cause

    def read_tools(self, row: Row) -> Sequence[Mapping[str, Any]] | None:
        """The tools that a row offers for its conversation; raises PromptFileError as `render` does."""
        try:
            return read_tools(row.get("tools"))
        except ConversationError as cause:
            raise PromptFileError(f"The conversation cannot be continued: {cause}.") from cause

    def _continue(self, messages: Any) -> tuple[Message, ...]:
        try:
            return read_messages(messages)
        except ConversationError as cause:
            raise PromptFileError(f"The conversation cannot be continued: {cause}.") from cause

    def _failed(self, cause: TemplateError, values: Mapping[str, Any]) -> PromptFileError:
        problem = f"Prompt '{self.name}' does not render for this row"
        for name in sorted(self.variables):
            if values.get(name, "") is None:
                fix = f"Reject such rows earlier, or write {{{{ {name} or '' }}}}."
                place = self._line_of(name)
                return PromptFileError(f"{problem}: column '{name}' is null.", fix, place)
        return PromptFileError(f"{problem}: {cause}.", "", self.place)

    def _missing(self, name: str, values: Mapping[str, Any]) -> PromptFileError:
        return PromptFileError(
            f"Prompt '{self.name}' needs a column '{name}', and the row has none.",
            f"The row has: {', '.join(sorted(values)) or 'no columns'}.",
            self._line_of(name),
        )

    def _line_of(self, name: str) -> Place | None:
        for number, line in enumerate(self.body.splitlines(), 1):
            if "{" in line and name in line:
                return self._line(number)
        return self.place

    def _line(self, line: int | None) -> Place | None:
        if self.place is None or line is None or self.body_line is None:
            return self.place
        return Place(self.place.path, self.body_line + line - 1)


CONTINUE = Prompt("messages", "", inputs=("messages",), continues=True)
"""Stands where a step has no prompt: it continues the conversation that the row brings."""


def read_prompt(path: Path | str, name: str | None = None) -> Prompt:
    """The prompt in a file. `name` is what it was asked for by; it must not call itself another."""
    prompt = parse_prompt(read_text(path, PromptFileError), str(path))
    if name is not None and prompt.name != name:
        raise PromptFileError(
            f"'{path}' calls itself '{prompt.name}' and is found as '{name}'.",
            f"Write `name: {name}`, or move the file.",
            Place(str(path), 2),
        )
    return prompt


def parse_prompt(text: str, path: str) -> Prompt:
    """The prompt in a text with front matter; `path` stands for the file in errors.

    The body is used as it is, without one newline at its end.
    """
    text = text.replace("\r\n", "\n")
    front, body, body_line = _split(text, path)
    document = parse_yaml(front, path, PromptFileError, first_line=2)
    given = {} if document.data is None else document.data
    settings = validate(FrontMatter, given, document.place, PromptFileError)
    fields = settings.model_dump()
    prompt = Prompt(
        **{key.removesuffix("_"): value for key, value in fields.items()},
        body=body,
        text=text,
        place=Place(path, body_line),
        body_line=body_line,
    )
    return prompt.check()


def _split(text: str, path: str) -> tuple[str, str, int]:
    """Front matter, body, and the line at which the body begins."""
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        raise PromptFileError(
            f"'{path}' has no front matter.",
            "Begin with a line `---`, then `name: …`, `version: 1`, `inputs: […]`, then `---`.",
            Place(path, 1),
        )
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise PromptFileError(
            f"The front matter of '{path}' does not end.",
            "Close it with a line `---`.",
            Place(path, 1),
        )
    body = "\n".join(lines[end + 1 :]).removesuffix("\n")
    return "\n".join(lines[1:end]), body, end + 2


def inline_prompt(inline: InlinePrompt, name: str, place: Place | None = None) -> Prompt:
    """The prompt written in a pipeline; `text` is for completions, `user` for chat.

    Its inputs are the columns that its templates use.
    """
    body = inline.text if inline.text is not None else inline.user or ""
    prompt = Prompt(
        name=name,
        body=body,
        api="completions" if inline.text is not None else "chat",
        system=inline.system,
        stop=inline.stop,
        delimiters=inline.delimiters,
        text=body,
        place=place,
    )
    return replace(prompt, inputs=tuple(sorted(prompt.variables)))
