"""A pipeline bound to what is installed: prompts read, checks and metrics built, models at hand.

The plan decides nothing and keeps no state of a run; two shards may use one plan at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from nexa_core.engine.calls import Calls
from nexa_core.engine.steps.accepting import AcceptEarly, AcceptRule, Term
from nexa_core.engine.steps.check import CheckRows, NamedCheck
from nexa_core.engine.steps.critic import Critic
from nexa_core.engine.steps.generate import Generate
from nexa_core.engine.steps.judge import JudgeRows, SeatedJudge
from nexa_core.engine.steps.stream import Step
from nexa_core.engine.tallies import NamedMetric
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import GateFileError, Place
from nexa_core.gates import Gate, ReviewerUse
from nexa_core.pipeline import (
    CheckStep,
    CheckUse,
    CriticStep,
    GenerateStep,
    JudgeStep,
    Pipeline,
    Role,
    roles_of,
)
from nexa_core.plugins import Plugins
from nexa_core.prices import is_local, rates_of
from nexa_core.prompts import Prompt
from nexa_core.protocols import Judge, Model, RemoteModel, Reviewer, SetCheck
from nexa_core.specs import CheckSpec, JudgeOrder

JUDGE_TOKENS = 1_024
"""The most tokens of a judgement where nobody says another number."""

PROMPT_COLUMNS = ("instruction", "prompt", "question", "messages")
"""Where the question of a row is looked for when the user does not say."""


@dataclass(frozen=True)
class NamedSetCheck:
    """A set check as the pipeline uses it."""

    id: str
    check: SetCheck
    on_fail: str = "reject"


class Models:
    """The models of a pipeline's roles, each built once, when it is first needed."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._built: dict[str, Model] = {}
        self.addresses: dict[str, str] = {}
        """Where addresses of roles really are, for those that are another in each process."""

    def get(self, role: Role, place: Place | None = None) -> Model:
        """The model a role names; equal roles share one."""
        if role.base_url in self.addresses:
            role = role.model_copy(update={"base_url": self.addresses[role.base_url]})
        key = role.model_dump_json(exclude={"sampling"})
        if key not in self._built:
            self._built[key] = self._plugins.build_model(role, place)
        return self._built[key]

    async def aclose(self) -> None:
        """Close the connections of every remote model."""
        for model in self._built.values():
            if isinstance(model, RemoteModel):
                await model.aclose()


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
    def unpriced(self) -> tuple[str, ...]:
        """References of the models that steps ask and whose tokens cost nobody knows what."""
        used = [role for step in self.pipeline.asking_steps for role in roles_of(step)]
        used += self.reviewer_roles
        lines = (line for name in used for line in self.lines(name))
        unknown = (
            line.role.model for line in lines if line.rates is None and not is_local(line.role)
        )
        return tuple(dict.fromkeys(unknown))

    @property
    def asks_models(self) -> bool:
        """Whether any step asks a model."""
        return any(roles_of(step) for step in self.pipeline.steps)

    @cached_property
    def set_checks(self) -> tuple[NamedSetCheck, ...]:
        """The checks that the coordinator folds over shards in order."""
        return tuple(
            NamedSetCheck(use.id, self._check(use), use.on_fail)
            for step in self.pipeline.steps
            if isinstance(step, CheckStep)
            for use in step.checks
            if self._check_spec(use).over == "set"
        )

    def build_checks(self) -> None:
        """Build every check, so that a wrong option is found before anything is asked."""
        for step in self.pipeline.steps:
            for use in step.checks if isinstance(step, CheckStep) else ():
                self._check(use)

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

    def build_steps(self, calls: Calls, retry: bool = False) -> list[Step]:
        """The stages of one shard, from the first, or from the retry step with the retry's prompt."""
        steps: list[Step] = []
        settings = list(self.pipeline.steps)
        if retry:
            start = next(i for i, s in enumerate(settings) if s.id == self.retry.step)
            settings = settings[start:]
        for step in settings:
            steps.append(self._build_step(step, calls, retry))
            early = self._terms_after(step)
            if early:
                steps.append(AcceptEarly(f"accept-{step.id}", early))
        return steps

    def _build_step(self, step: Any, calls: Calls, retry: bool) -> Step:
        if isinstance(step, CheckStep):
            return CheckRows(step.id, self._row_checks(step))
        if isinstance(step, CriticStep):
            return Critic(
                step.id, self._caller(step), calls, self.prompts[step.id], self.pipeline.seed
            )
        if isinstance(step, GenerateStep):
            retried = retry and step.id == self.retry.step and self.retry.prompt is not None
            return Generate(
                step.id,
                self._caller(step),
                calls,
                self.prompts[f"{step.id}@retry" if retried else step.id],
                step.into,
                self.pipeline.effective_sampling(step),
                self.pipeline.seed,
                1 if retry else step.samples,
                step.vary,
            )
        return self._build_judge(step, calls)

    def _build_judge(self, step: JudgeStep, calls: Calls) -> JudgeRows:
        return JudgeRows(step.id, calls, self.seat_judge(step, *self.judged_columns))

    def seat_judge(
        self, step: JudgeStep, question: str | None, answer: str, rubric: Prompt | None = None
    ) -> SeatedJudge:
        """The judge of a step with everything to ask by; `question` and `answer` are columns."""
        callers = {role: Caller(step.id, role, self.lines(role)) for role in step.roles}
        sampling = {
            role: {**own, **step.sampling.as_dict()}
            for role, own in self.sampling_of_roles(step.roles).items()
        }
        judge = self._judge(step, question, answer, rubric or self.prompts.get(step.id))
        return SeatedJudge(step.id, judge, callers, sampling, self.pipeline.seed)

    def _judge(
        self, step: JudgeStep, question: str | None, answer: str, rubric: Prompt | None
    ) -> Judge:
        """The judge of a step, built once."""
        if step.id not in self.built:
            place = self.pipeline.place(f"{step.id}.method") or self.pipeline.place(step.id)
            spec = self.plugins.judges.get(step.method, place)
            order = JudgeOrder(
                step.id,
                rubric,
                step.roles,
                question,
                answer,
                step.combine,
                step.escalate.between if step.escalate else None,
            )
            self.built[step.id] = self.plugins.build_judge(
                spec, order, step.options, self.pipeline.locate(f"{step.id}.options")
            )
        built: Judge = self.built[step.id]
        return built

    def roles_of_reviewer(self, use: ReviewerUse) -> tuple[str, ...]:
        """The role that a reviewer asks; none for one that asks no model."""
        spec = self.plugins.reviewers.get(use.name, use.place)
        return (str(use.options.get("model")),) if spec.asks else ()

    @property
    def reviewer_roles(self) -> tuple[str, ...]:
        """The roles that the gate's reviewers ask."""
        uses = self.gate.reviewers if self.gate else ()
        return tuple(dict.fromkeys(r for use in uses for r in self.roles_of_reviewer(use)))

    def build_reviewer(self, use: ReviewerUse) -> Reviewer:
        """A reviewer as the gate names it, with the prompt that the run began with."""
        spec = self.plugins.reviewers.get(use.name, use.place)
        facts = {
            "instructions": self.prompts.get(reviewer_prompt_key(use)),
            "folder": str(self.plugins.workspace.root),
        }
        built: Reviewer = self.plugins.build(
            spec, dict(use.options), facts, use.place, GateFileError
        )
        return built

    def sampling_of_roles(self, roles: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The sampling of roles that judge or review: greedy and bounded, unless they say otherwise."""
        own = {"temperature": 0.0, "max_tokens": JUDGE_TOKENS}
        return {role: {**own, **self.pipeline.models[role].sampling.as_dict()} for role in roles}

    @property
    def judged_columns(self) -> tuple[str | None, str]:
        """The columns that hold what was asked and what was answered."""
        answer = self.pipeline.answer_field(self.source_columns) or "response"
        written = [step.into for step in self.pipeline.generate_steps]
        known = [*self.source_columns, *written]
        usual = ("prompt", "instruction", "question", "messages")
        return next((name for name in usual if name in known and name != answer), None), answer

    def _row_checks(self, step: CheckStep) -> list[NamedCheck]:
        return [
            NamedCheck(use.id, self._check(use), use.on_fail, self._check_spec(use).waits)
            for use in step.checks
            if self._check_spec(use).over == "row"
        ]

    def _check_spec(self, use: CheckUse) -> CheckSpec:
        return self.plugins.checks.get(use.name, self.pipeline.place(use.id))

    def _check(self, use: CheckUse) -> Any:
        if use.id not in self.built:
            place = self.pipeline.locate(use.id)
            self.built[use.id] = self.plugins.build(
                self._check_spec(use), use.options, self.facts, place
            )
        return self.built[use.id]

    def _caller(self, step: Any) -> Caller:
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
        return Line(self.models.get(role, place), role, rates_of(role))

    def _terms_after(self, step: Any) -> list[Term]:
        if not self.accept_rule.eager:
            return []
        own = {use.id for use in step.checks} if isinstance(step, CheckStep) else {step.id}
        return [term for term in self.accept_rule.terms if own & set(term.scores)]

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
            model, prompt = self._caller(step).model, self.prompts.get(step.id)
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


def accept_rule_of(pipeline: Pipeline) -> AcceptRule:
    """The accept block as terms over score ids; `min_score` asks all judges together."""
    accept = pipeline.accept
    if accept is None:
        return AcceptRule()
    judges = tuple(step.id for step in pipeline.steps if step.kind == "judge")
    terms = tuple(
        Term(
            term.name,
            (term.score,) if term.score else judges,
            term.at_least,
            term.below,
            accept.consensus,
        )
        for term in accept.terms
        if term.name != "no_flags"
    )
    return AcceptRule(terms, accept.no_flags, accept.eager)


def reviewer_prompt_key(use: ReviewerUse) -> str:
    """The key of a reviewer's prompt among the plan's; no step has such an id."""
    return f"reviewer:{use.options.get('prompt') or use.name}"


def prompt_names(pipeline: Pipeline) -> Sequence[tuple[str, Any]]:
    """Every prompt the pipeline uses, as (key in the plan, name or inline prompt)."""
    named: list[tuple[str, Any]] = []
    for step in pipeline.asking_steps:
        if isinstance(step, JudgeStep):
            named += [(step.id, step.rubric)] if step.rubric is not None else []
        elif not isinstance(step, CheckStep):
            named.append((step.id, step.prompt))
    retry = pipeline.accept.retry if pipeline.accept else None
    if retry is not None and retry.prompt is not None:
        named.append((f"{retry.step}@retry", retry.prompt))
    return named
