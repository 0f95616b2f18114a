"""The pipeline as a frozen tree that knows its lines, and questions about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from nexa_core.documents import Document, Keys
from nexa_core.errors import PipelineFileError, Place, UnknownNameError
from nexa_core.pipeline import paths
from nexa_core.pipeline.roles import Number, Role, Settings
from nexa_core.pipeline.sections import (
    Accept,
    Budget,
    Evaluate,
    Package,
    Pilot,
    Scale,
    SourceSettings,
    Space,
    Train,
)
from nexa_core.pipeline.steps import CheckStep, CheckUse, CriticStep, GenerateStep, JudgeStep, Step
from nexa_core.records import content_hash

EVALUATE = "evaluate"
"""The id under which the judge of the evaluation stands among the steps: no step can have it."""


def _read_share(value: Any) -> Any:
    """A share written as a percentage: "5%" is 0.05."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return value
    return value


def roles_of(step: Step) -> tuple[str, ...]:
    """The model roles that a step asks, the first one first."""
    if isinstance(step, CheckStep):
        return ()
    return step.roles if isinstance(step, JudgeStep) else (step.model,)


@dataclass(frozen=True)
class Origin:
    """Where the values of a pipeline came from: a file, and what was set over it.

    Origins compare equal: two pipelines are one when they declare the same.
    """

    document: Document | None = field(default=None, compare=False)
    sets: tuple[tuple[paths.Path, str], ...] = field(default=(), compare=False)

    def place(self, keys: Keys) -> Place | None:
        """The `--set` that wrote the value at a key path, or made it, else its line in the file."""
        wanted = tuple(keys)
        absent = self.document is None or wanted not in self.document.lines
        for path, text in reversed(self.sets):
            if wanted[: len(path)] == path or (absent and wanted == path[: len(wanted)]):
                return Place(text)
        return self.document.place(keys) if self.document else None


class Pipeline(Settings):
    """What one YAML file declares. Sections are named as in the file; None is not asked for."""

    nexa: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    source: SourceSettings | None = None
    models: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Role] = Field(
        default_factory=dict
    )
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    accept: Accept | None = None
    pilot: Pilot = Pilot()
    gate: str | dict[str, Any] | None = None
    search_space: dict[str, Space] = Field(default_factory=dict)
    scale: Scale | None = None
    budget: Budget | None = None
    package: Package | None = None
    train: Train | None = None
    evaluate: Evaluate | None = None
    fail_over: Annotated[Number, BeforeValidator(_read_share), Field(ge=0, le=1)] = 0.05

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def resolved(self) -> dict[str, Any]:
        """The pipeline as JSON, with every default that is set: itself a pipeline file."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def hash(self) -> str:
        """SHA-256 of the resolved pipeline, 64 hex digits."""
        return content_hash(self.resolved())

    @property
    def path(self) -> str | None:
        """The file it was read from."""
        return self._origin.document.path if self._origin.document else None

    def place(self, path: str = "") -> Place | None:
        """Where the value at a dotted path was written."""
        try:
            keys = self._keys(self._file_tree, path) if path else ()
        except PipelineFileError:
            keys = ()
        return self._origin.place(keys)

    def locate(self, path: str) -> Callable[[Keys], Place | None]:
        """A function from a key path below `path` to its place: for options that a plugin checks."""
        return lambda keys: self.place(".".join([path, *map(str, keys)]))

    def set_place(self, path: str) -> Place | None:
        """The `--set` that wrote the value at a dotted path, None where the file did."""
        found = self.place(path)
        return found if found and found.path in [text for _, text in self._origin.sets] else None

    def step(self, step_id: str) -> Step:
        """The step with this id; UnknownNameError when there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise UnknownNameError("step", step_id, [step.id for step in self.steps])

    @cached_property
    def scoring(self) -> JudgeStep | None:
        """The judge that scores the evaluation, as a step with the id `evaluate`."""
        judged = self.evaluate.judged if self.evaluate else None
        if judged is None:
            return None
        return JudgeStep(id=EVALUATE, **judged.model_dump(exclude={"at_least"}))

    @property
    def asking_steps(self) -> tuple[Step, ...]:
        """The steps, and as one more the judge that scores the evaluation."""
        return (*self.steps, self.scoring) if self.scoring else self.steps

    @property
    def generate_steps(self) -> tuple[GenerateStep, ...]:
        """The steps that make text, in order."""
        return tuple(step for step in self.steps if isinstance(step, GenerateStep))

    @property
    def checks(self) -> tuple[CheckUse, ...]:
        """Every check of every step, in order."""
        return tuple(c for step in self.steps if isinstance(step, CheckStep) for c in step.checks)

    @property
    def score_ids(self) -> tuple[str, ...]:
        """The fields of a row's `scores`: the ids of checks, judges and critics, in order."""
        return tuple(
            score
            for step in self.steps
            for score in (
                [check.id for check in step.checks]
                if isinstance(step, CheckStep)
                else [step.id]
                if isinstance(step, JudgeStep | CriticStep)
                else []
            )
        )

    def effective_sampling(self, step: Step) -> dict[str, Any]:
        """The step's sampling over its role's; only keys that are set, `stop` as a list."""
        asked = roles_of(step)[:1]
        role = self.models[asked[0]].sampling.as_dict() if asked else {}
        own = step.sampling.as_dict() if isinstance(step, GenerateStep | JudgeStep) else {}
        return {**role, **own}

    def fallbacks(self, role_name: str) -> tuple[Role, ...]:
        """The roles that take over where this one's endpoint answers nothing, in order."""
        role = self.models[role_name]
        return tuple(
            self.models[each].model_copy(update={"fallbacks": ()})
            if each in self.models
            else role.stand_in(each)
            for each in role.fallbacks
        )

    def answer_field(self, columns: Sequence[str] = ()) -> str | None:
        """The column that answers: the last generate step's, else the source's by a usual name."""
        if self.generate_steps:
            return self.generate_steps[-1].into
        usual = ("response", "completion", "answer", "output", "text")
        return next((name for name in usual if name in columns), None)

    def value_at(self, path: str) -> Any:
        """The value at a dotted path, None where not set; sampling falls back on the role's."""
        tree = self._whole_tree
        keys = self._keys(tree, path)
        value = paths.read_at(tree, keys)
        if value is None and keys[0] == "steps" and len(keys) == 5 and keys[3] == "sampling":
            return self.effective_sampling(self.steps[int(keys[1])]).get(str(keys[4]))
        return value

    def with_values(self, values: Mapping[str, Any]) -> Pipeline:
        """The pipeline with other values at dotted paths, validated like a file."""
        from nexa_core.pipeline.reading import build

        tree, sets = self.resolved(), list(self._origin.sets)
        for path, value in values.items():
            place = Place(f"{path}={value}")
            keys = self._keys(tree, path, place)
            tree = paths.write_at(tree, keys, value, place)
            sets.append((keys, str(place)))
        return build(tree, Origin(self._origin.document, tuple(sets)))

    @property
    def unused_roles(self) -> tuple[str, ...]:
        """The model roles that no step, inline reviewer or scorer asks for."""
        used = {role for step in self.asking_steps for role in roles_of(step)}
        scorer = self.evaluate.scorer if self.evaluate else None
        rest = [self.gate, scorer, [check.options for check in self.checks]]
        used.update(role for part in rest for role in _models_in(part))
        used.update(each for role in self.models.values() for each in role.fallbacks)
        return tuple(role for role in self.models if role not in used)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd but no error, each with its place."""
        unused = [
            f"No step uses the model role '{role}'. {self.place(f'models.{role}') or ''}".rstrip()
            for role in self.unused_roles
        ]
        return (*unused, *self.warnings_of_evaluation)

    @property
    def warnings_of_evaluation(self) -> tuple[str, ...]:
        """What a reader of the evaluation must know: who judged, and how few items there can be."""
        found = [
            f"'{model}' filters the training data and judges the evaluation: what it overrates is "
            "trained on and then found good. Give one of the two another model."
            for model in self.judges_of_both
        ]
        settings, scale = self.evaluate, self.scale
        if settings and settings.holdout and scale and scale.accepted and self.package:
            held = round(scale.accepted * self.package.validation)
            if held < settings.holdout:
                found.append(
                    f"evaluate.holdout is {settings.holdout}, and package.validation holds out about "
                    f"{held} of {scale.accepted} rows: the evaluation will have no more."
                )
        return tuple(found)

    @property
    def judges_of_both(self) -> tuple[str, ...]:
        """Models that filter rows as judges or critics and score the evaluation too."""
        filtering = [s for s in self.steps if isinstance(s, JudgeStep | CriticStep)]
        scoring = [self.scoring] if self.scoring else []
        both = self._judging_models(filtering) & self._judging_models(scoring)
        return tuple(sorted({model for model, _ in both}))

    def _judging_models(self, steps: Sequence[Step]) -> set[tuple[str, str | None]]:
        """Models and their addresses; where a role is served by another server it is another model."""
        roles = [self.models[name] for step in steps for name in roles_of(step)]
        return {(role.model, role.base_url) for role in roles}

    @cached_property
    def _whole_tree(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    @property
    def _file_tree(self) -> Mapping[str, Any]:
        document = self._origin.document
        return document.data if document and isinstance(document.data, dict) else self._whole_tree

    def _keys(self, tree: Mapping[str, Any], path: str, place: Place | None = None) -> paths.Path:
        return paths.find_keys(tree, path, tuple(Pipeline.model_fields), place)


def _models_in(value: Any) -> Iterator[str]:
    """Every string under a key `model` in nested options."""
    if isinstance(value, Mapping):
        if isinstance(value.get("model"), str):
            yield value["model"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _models_in(one)
