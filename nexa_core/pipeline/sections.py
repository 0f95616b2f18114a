"""The sections of a pipeline beside models and steps: source, accept, pilot, scale and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from nexa_core.errors import suggest
from nexa_core.pipeline.roles import Count, Flag, Name, Number, Settings
from nexa_core.pipeline.steps import Judging, Prompt, Share


class SourceSettings(Settings):
    """Where rows come from. `id` is the column that identifies a row; `map` is {field: column}.

    `licence` is what the source may be used for, as the dataset's card shall say it.
    """

    path: str
    id: str | None = None
    licence: str | None = None
    map: dict[str, str] = Field(default_factory=dict)


class Bound(Settings):
    """What a step's score must reach: at least, below, or between both."""

    at_least: Number | None = None
    below: Number | None = None

    @model_validator(mode="after")
    def _require_a_bound(self) -> Self:
        if self.at_least is None and self.below is None:
            raise ValueError("a term needs `at_least` or `below`")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError("`at_least` must be under `below`, or no score can pass")
        return self


class Retry(Settings):
    """Sends a rejected row back to a generate step, at most `attempts` times."""

    step: str
    prompt: Prompt | None = None
    attempts: Count = 1


class Term(NamedTuple):
    """One condition of accept. `score` is a score id, or None for the rule over all judges.

    `name` is what `reason` of a rejected row says.
    """

    name: str
    score: str | None
    at_least: float | None
    below: float | None


class Accept(Settings):
    """The rule that turns a row's scores into accepted or rejected: every term must hold.

    `scores` holds the terms written by step id: `{clear: {at_least: 0.5}}`. `min_score` is asked of
    the judges together, by `consensus`.
    """

    scores: dict[str, Bound] = Field(default_factory=dict)
    min_score: Annotated[Number, Field(ge=0, le=1)] | None = None
    consensus: Literal["all", "any", "mean"] = "all"
    no_flags: Flag = False
    eager: Flag = True
    retry: Retry | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_terms(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for key, given in value.items():
            if key not in ACCEPT_KEYS and not isinstance(given, Mapping | Bound):
                near = suggest(str(key), ACCEPT_KEYS)
                meant = (
                    f"the nearest key is '{near}'" if near else f"write `{key}: {{at_least: 0.5}}`"
                )
                raise ValueError(
                    f"'{key}' is none of its keys, and as a score it has no bound; {meant}"
                )
        own = {key: value[key] for key in value if key in ACCEPT_KEYS}
        return {**own, "scores": {key: value[key] for key in value if key not in ACCEPT_KEYS}}

    @model_serializer(mode="wrap")
    def _spread_terms(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole = dump(self)
        return {**whole.pop("scores"), **whole}

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions in the order of the file, then `min_score`, then `no_flags`."""
        found = [Term(name, name, b.at_least, b.below) for name, b in self.scores.items()]
        if self.min_score is not None:
            found.append(Term("min_score", None, self.min_score, None))
        if self.no_flags:
            found.append(Term("no_flags", None, None, None))
        return tuple(found)


ACCEPT_KEYS = frozenset({"min_score", "consensus", "no_flags", "eager", "retry"})


class Space(Settings):
    """How far a reviewer may move a parameter: a range (both ends in), or choices."""

    min: Number | None = None
    max: Number | None = None
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        ends = [end for end in (self.min, self.max) if end is not None]
        if (self.choices is None and len(ends) != 2) or (self.choices is not None and ends):
            raise ValueError("a space is either {min: …, max: …} or {choices: […]}")
        if self.choices is not None and not self.choices:
            raise ValueError("`choices` is empty")
        if len(ends) == 2 and ends[0] > ends[1]:
            raise ValueError("`min` is over `max`")
        return self

    def holds(self, value: Any) -> bool:
        """Whether a parameter may have this value."""
        if self.choices is not None:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            number
            and self.min is not None
            and self.max is not None
            and self.min <= value <= self.max
        )


class Pilot(Settings):
    """The measured beginning. `smoke` rows run first: what they can already show to fail ends it."""

    rows: Literal["auto", "all"] | Count = "auto"
    max_iterations: Count = 5
    smoke: Count | None = None
    shard_rows: Count = 1000

    @model_validator(mode="after")
    def _require_rows_to_plan(self) -> Self:
        if self.smoke is not None and self.rows == "all":
            raise ValueError("`smoke` goes with `rows: auto` or a number: all rows are no sample")
        return self


class Scale(Settings):
    """How much to make: work through `rows`, or end with exactly `accepted` rows.

    `drift`: whether rows that are no longer what the pilot showed pause the run until a person signs.
    """

    rows: Literal["all"] | Count | None = None
    accepted: Count | None = None
    max_rows: Count | None = None
    shard_rows: Count = 1000
    drift: Literal["pause", "off"] = "pause"

    @model_validator(mode="after")
    def _require_one_goal(self) -> Self:
        if (self.rows is None) == (self.accepted is None):
            raise ValueError("scale is either {rows: all}, {rows: N} or {accepted: N}")
        if self.max_rows is not None and self.accepted is None:
            raise ValueError("`max_rows` goes with `accepted`")
        if (
            self.max_rows is not None
            and self.accepted is not None
            and self.max_rows < self.accepted
        ):
            raise ValueError("`max_rows` is under `accepted`, so the goal could never be reached")
        return self


class Budget(Settings):
    """The most the whole run may cost, and the share of it the pilot may take."""

    usd: Annotated[Number, Field(gt=0)]
    pilot_share: Annotated[Number, Field(gt=0, le=1)] | None = None


class Mix(Settings):
    """Other training data put among a dataset's rows: `share` of all of them, at most."""

    path: str
    licence: Annotated[str, Field(min_length=1)]
    share: Annotated[Number, Field(gt=0, lt=1)]


class Package(Settings):
    """The training data. `template` renders what a student sees: the row's columns, `prompt`.

    What is not set is the format's own: its usual template, the columns that ask and answer. `best`
    keeps of the accepted rows of a question the one with the highest score; `rank` names the scores
    whose mean says so, else all judges' and critics'. `gate` decides on the rows before they are
    packaged; `none` lets all of them through. Every other key goes to the format's options.
    """

    format: str = "prompt-completion"
    validation: Annotated[Number, Field(ge=0, lt=1)] = 0.05
    prompt: str | None = None
    completion: str | None = None
    template: str | None = None
    best: bool | None = None
    rank: tuple[str, ...] | None = None
    mix: tuple[Mix, ...] | None = None
    gate: str | dict[str, Any] = "dataset_qc"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        own = {key: value[key] for key in value if key in cls.model_fields and key != "options"}
        return {**own, "options": {key: value[key] for key in value if key not in own}}

    @model_serializer
    def _spread_options(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in type(self).model_fields if name != "options"}
        kept = {name: value for name, value in own.items() if value is not None}
        if self.mix is not None:
            kept["mix"] = [each.model_dump(mode="json") for each in self.mix]
        return {**kept, **self.options}

    @model_validator(mode="after")
    def _leave_own_rows(self) -> Self:
        if sum(each.share for each in self.mix or ()) >= 1:
            raise ValueError("the shares of `mix` leave nothing for the run's own rows")
        return self


class Train(Settings):
    """Which trainer on which student; every other key goes to the trainer's own options.

    `usd_per_hour` is what the machine costs that trains.
    """

    method: str
    model: str
    usd_per_hour: Annotated[Number, Field(ge=0)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        names = ("method", "model", "usd_per_hour")
        own = {key: value[key] for key in value if key in names}
        return {**own, "options": {key: value[key] for key in value if key not in own}}

    @model_serializer
    def _spread_options(self) -> dict[str, Any]:
        own: dict[str, Any] = {"method": self.method, "model": self.model}
        if self.usd_per_hour is not None:
            own["usd_per_hour"] = self.usd_per_hour
        return {**own, **self.options}

    @field_validator("model")
    @classmethod
    def _require_weights(cls, value: str) -> str:
        if value.partition("/")[0] not in ("local", "hf") or not value.partition("/")[2]:
            raise ValueError("a student has weights: write local/PATH or hf/NAME")
        return value


class Judged(Judging):
    """A judge as the scorer of predictions: right is what scores `at_least`, 0.8 as rubrics anchor it.

    The rubric is given `question` and `answer`, and as `reference` the item's own answer.
    """

    at_least: Annotated[Number, Field(gt=0, le=1)] = 0.8


class JudgedScorer(Settings):
    """`scorer: {judged: {model: ROLE, rubric: NAME}}`."""

    judged: Judged


def _scorer_form(value: Any) -> str:
    if isinstance(value, str):
        return "name"
    judged = isinstance(value, JudgedScorer) or (isinstance(value, Mapping) and "judged" in value)
    return "judged" if judged else "options"


ScorerOptions = Annotated[
    dict[str, Any],
    Field(min_length=1, max_length=1, json_schema_extra={"not": {"required": ["judged"]}}),
]
Scorer = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[JudgedScorer, Tag("judged")]
    | Annotated[ScorerOptions, Tag("options")],
    Discriminator(_scorer_form),
]
"""A scorer's name, its name with options, or a judge."""


class Evaluate(Settings):
    """Base against tuned on items a student never saw: a named or file source, or rows held out.

    `few_shot` names the prompt of the few-shot arm; `require: better` makes the run fail (exit 1)
    unless the second arm beats the first at `alpha` and by at least `effect` (0.02 is two points).
    `cluster` names a column of the items: those that share a value are tested as one.
    """

    items: str | None = None
    holdout: Count | None = None
    scorer: Scorer = "contains"
    arms: tuple[str, ...] = ("base", "tuned")
    few_shot: str | None = None
    alpha: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    max_tokens: Count | None = None
    effect: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    cluster: str | None = None
    require: Literal["better"] | None = None

    @model_validator(mode="after")
    def _require_items(self) -> Self:
        if (self.items is None) == (self.holdout is None):
            raise ValueError("evaluate takes either `items` or `holdout`")
        if not self.arms or len(set(self.arms)) != len(self.arms):
            raise ValueError("`arms` names each arm once")
        return self

    @property
    def judged(self) -> Judged | None:
        """The judge that scores, None where a scorer without a model does."""
        return self.scorer.judged if isinstance(self.scorer, JudgedScorer) else None


__all__ = [
    "Accept",
    "Bound",
    "Budget",
    "Evaluate",
    "Judged",
    "JudgedScorer",
    "Name",
    "Package",
    "Pilot",
    "Retry",
    "Scale",
    "Share",
    "SourceSettings",
    "Space",
    "Term",
    "Train",
]
