"""A pipeline bound to what is installed: prompts read, checks and metrics built, models at hand.

The plan decides nothing and keeps no state of a run; two shards may use one plan at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from nexa_core.engine.models import Models
from nexa_core.engine.steps.accepting import AcceptRule, accept_rule_of
from nexa_core.engine.tallies import NamedMetric
from nexa_core.engine.tries import Caller, Line, endpoint_of
from nexa_core.errors import GateFileError, Place
from nexa_core.gates import Gate
from nexa_core.pipeline import (
    CheckStep,
    CheckUse,
    GenerateStep,
    JudgeStep,
    Pipeline,
    Role,
    roles_of,
)
from nexa_core.plugins import Plugins
from nexa_core.prices import rates_of
from nexa_core.prompts import Prompt
from nexa_core.protocols import SetCheck
from nexa_core.specs import CheckSpec

PROMPT_COLUMNS = ("instruction", "prompt", "question", "messages")
"""Where the question of a row is looked for when the user does not say."""


@dataclass(frozen=True)
class NamedSetCheck:
    """A set check as the pipeline uses it."""

    id: str
    check: SetCheck
    on_fail: str = "reject"


@dataclass(frozen=True)
class Plan:
    """Everything a shard needs. `source_columns` are the columns the source's rows bring."""

    pipeline: Pipeline
    gate: Gate | None
    plugins: Plugins
    prompts: Mapping[str, Prompt]
    models: Models
    source_columns: tuple[str, ...] = ()
    code_commit: str | None = None
    dataset_gate: Gate | None = None
    addressed: bool = True
    """Addresses are part of what a call is; not in runs that began before they were."""
    built: dict[str, Any] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, Any]) -> Plan:
        """The same plan with other parameters; prompts among them are those read at the start."""
        if not values:
            return self
        return replace(self, pipeline=self.pipeline.with_values(values), built={})

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What checks and metrics are told where the user did not say: columns, delimiters, questions.

        A fact that is a function is worked out only for who asks for it.
        """
        answer = self.pipeline.answer_field(self.source_columns)
        prompt = self._answer_prompt
        columns = {*self.source_columns, *(step.into for step in self.pipeline.generate_steps)}
        delimiters = list(prompt.delimiters) if prompt else self._check_delimiters
        return {
            "field": answer,
            "raw_field": f"{answer}_raw_text",
            "tokens_field": f"{answer}_tokens",
            "finish_field": f"{answer}_finish_reason",
            "delimiters": delimiters or None,
            "stop": list(prompt.stop) if prompt else None,
            "judges": list(self.judge_ids) or None,
            **self._answering,
            "prompt_field": next((n for n in PROMPT_COLUMNS if n in columns), None),
            "evaluation_items": self._read_questions,
            "open_rows": lambda: self._open_rows,
            "folder": str(self.plugins.workspace.root),
        }

    def _read_questions(self) -> tuple[str, ...]:
        from nexa_core.engine.earlier import read_questions

        return read_questions(self)

    def _open_rows(self, name: str) -> Any:
        from nexa_core.engine.earlier import open_rows

        return open_rows(self, name)

    @property
    def _answering(self) -> dict[str, str | None]:
        """The step that answers, and who is to serve it."""
        if not self.pipeline.generate_steps:
            return {}
        step = self.pipeline.generate_steps[-1]
        return {"answer_step": step.id, "expect": self.pipeline.models[step.model].must_be}

    @property
    def _answer_prompt(self) -> Prompt | None:
        generators = [s for s in self.pipeline.steps if isinstance(s, GenerateStep)]
        return self.prompts[generators[-1].id] if generators else None

    @property
    def _check_delimiters(self) -> list[str]:
        uses = (u for s in self.pipeline.steps if isinstance(s, CheckStep) for u in s.checks)
        return next((list(u.options["delimiters"]) for u in uses if "delimiters" in u.options), [])

    @cached_property
    def accept_rule(self) -> AcceptRule:
        """The accept block over this pipeline's scores."""
        return accept_rule_of(self.pipeline)

    @property
    def retry(self) -> Any:
        """The accept block's retry, None where there is none."""
        return self.pipeline.accept.retry if self.pipeline.accept else None

    @property
    def judge_ids(self) -> tuple[str, ...]:
        """The steps that are judges, in order."""
        return tuple(step.id for step in self.pipeline.steps if isinstance(step, JudgeStep))

    @property
    def score_ids(self) -> tuple[str, ...]:
        """Every score the pipeline declares, in its order."""
        return self.pipeline.score_ids

    @property
    def asks_models(self) -> bool:
        """Whether any step asks a model."""
        return any(roles_of(step) for step in self.pipeline.steps)

    @cached_property
    def set_checks(self) -> tuple[NamedSetCheck, ...]:
        """The checks that the coordinator folds over shards in order."""
        return tuple(
            NamedSetCheck(use.id, self.check(use), use.on_fail)
            for step in self.pipeline.steps
            if isinstance(step, CheckStep)
            for use in step.checks
            if self.check_spec(use).over == "set"
        )

    def build_checks(self) -> None:
        """Build every check, so that a wrong option is found before anything is asked."""
        for step in self.pipeline.steps:
            for use in step.checks if isinstance(step, CheckStep) else ():
                self.check(use)

    @cached_property
    def metrics(self) -> tuple[NamedMetric, ...]:
        """The gate's metrics, and the two that every run counts."""
        rules = [*self.gate.hard, *self.gate.soft] if self.gate else []
        uses = {rule.key: (rule.metric, rule.options, rule.place) for rule in rules}
        for always in ("failed_rate", "acceptance_rate"):
            uses.setdefault(always, (always, {}, None))
        return tuple(self._metric(key, *use) for key, use in uses.items())

    @property
    def slices(self) -> tuple[str, ...]:
        """The columns by whose values the gate's rules are measured too."""
        return self.gate.slices if self.gate else ()

    def _metric(
        self, key: str, name: str, options: Mapping[str, Any], place: Place | None
    ) -> NamedMetric:
        spec = self.plugins.metrics.get(name, place)
        metric = self.plugins.build(spec, dict(options), self.facts, place, GateFileError)
        return NamedMetric(key, name, metric, spec.aggregate, spec.population)

    def check_spec(self, use: CheckUse) -> CheckSpec:
        """What the check of a step is, as its plugin says."""
        return self._check_specs[use.id]

    @cached_property
    def _check_specs(self) -> Mapping[str, CheckSpec]:
        """Every check's spec, by the id of its use."""
        uses = [u for s in self.pipeline.steps if isinstance(s, CheckStep) for u in s.checks]
        get, place = self.plugins.checks.get, self.pipeline.place
        return {use.id: get(use.name, place(use.id)) for use in uses}

    def check(self, use: CheckUse) -> Any:
        """The check of a step, built once."""
        if use.id not in self.built:
            place = self.pipeline.locate(use.id)
            self.built[use.id] = self.plugins.build(
                self.check_spec(use), use.options, self.facts, place
            )
        return self.built[use.id]

    def caller(self, step: Any) -> Caller:
        """Who asks for a step that has one role."""
        return Caller(step.id, step.model, self.lines(step.model))

    def lines(self, role_name: str) -> tuple[Line, ...]:
        """The models of a role: its own, then its fallbacks."""
        role = self.pipeline.models[role_name]
        place = self.pipeline.place(f"models.{role_name}.model")
        others = self.pipeline.fallbacks(role_name)
        at = self.pipeline.place(f"models.{role_name}.fallbacks")
        return (self.line(role, place), *(self.line(each, at) for each in others))

    def line(self, role: Role, place: Place | None = None) -> Line:
        """A model as a role uses it, with what it costs."""
        endpoint = endpoint_of(role) if self.addressed else ""
        return Line(self.models.get(role, place), role, rates_of(role), endpoint)

    def stand_in(self, origin: Mapping[str, Any], model: str) -> dict[str, Any]:
        """What provenance says of a step where not its first model answered, but this one."""
        return {**origin, "model": model, "revision": self._revisions.get(model)}

    @cached_property
    def _revisions(self) -> Mapping[str, str | None]:
        """The revision of every model that may answer, by its name."""
        names = {role for step in self.pipeline.steps for role in roles_of(step)}
        models = [line.model for name in names for line in self.lines(name)]
        return {model.name: model.revision for model in models}

    @cached_property
    def step_origins(self) -> tuple[dict[str, Any], ...]:
        """What provenance says of every step that asks a model, where its first model answers."""
        origins = []
        for step in self.pipeline.steps:
            if not roles_of(step):
                continue
            model, prompt = self.caller(step).model, self.prompts.get(step.id)
            origins.append(
                {
                    "step": step.id,
                    "model": model.name,
                    "revision": model.revision,
                    "prompt": prompt.name if prompt else None,
                    "prompt_hash": prompt.hash if prompt else None,
                }
            )
        return tuple(origins)

    def columns_from(self, step_id: str) -> set[str]:
        """The columns that the steps from `step_id` on add."""
        settings = list(self.pipeline.steps)
        start = next(i for i, s in enumerate(settings) if s.id == step_id)
        endings = ("", "_raw_text", "_finish_reason", "_tokens", "_reasoning", "_tool_calls")
        later = [s for s in settings[start:] if isinstance(s, GenerateStep)]
        judged = [s.id for s in settings[start:] if isinstance(s, JudgeStep)]
        return {f"{s.into}{ending}" for s in later for ending in endings} | {
            f"{name}{ending}" for name in judged for ending in ("_reason", "_criteria")
        }

    def scores_before(self, step_id: str) -> set[str]:
        """The scores given by the steps before `step_id`."""
        names: set[str] = set()
        for step in self.pipeline.steps:
            if step.id == step_id:
                break
            names |= {u.id for u in step.checks} if isinstance(step, CheckStep) else {step.id}
        return names
