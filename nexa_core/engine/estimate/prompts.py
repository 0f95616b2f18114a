"""The tokens of every step's calls, counted on prompts rendered for a sample of the source's rows.

A column that an earlier step would write is stood in for by text of the expected length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nexa_core.engine.estimate.assumptions import Assumptions
from nexa_core.engine.plan import Plan
from nexa_core.engine.requests import Subject
from nexa_core.engine.sources import SourceRow, invent_rows, read_rows, sample_rows
from nexa_core.engine.steps.asking import draw_columns
from nexa_core.errors import MissingExtraError, ModelError, PromptFileError
from nexa_core.pipeline import CheckStep, CriticStep, GenerateStep, JudgeStep
from nexa_core.protocols import RemoteModel, Source
from nexa_core.records import Message, Request

__all__ = ["Sample", "StepCalls", "count_steps", "take_sample"]

SAMPLE_ROWS = 200
BYTES_PER_TOKEN = 4
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""What chat formats put around a message, and before an answer."""
RUBRIC_TOKENS, VERDICT_TOKENS = 500, 200
"""A judge's rubric, and its verdict: assumed until the judge can be asked."""
_EXACT, _ESTIMATED = "its tokenizer", "an estimate of its provider's tokenizer"
_FILLER = "The work done by a force is the product of the force and the distance it moves. "


class Counter(Protocol):
    """What counts the tokens of a text."""

    def count_tokens(self, text: str) -> int: ...


class ByteCounter:
    """Counts a token for every four bytes: about right for English, too few for other scripts."""

    def count_tokens(self, text: str) -> int:
        """The number of started groups of four bytes."""
        return -(-len(text.encode()) // BYTES_PER_TOKEN)


@dataclass(frozen=True)
class Sample:
    """Rows of the source. `total` is how many it has, None where rows are made up."""

    rows: tuple[SourceRow, ...]
    total: int | None
    unreadable: int = 0


@dataclass(frozen=True)
class StepCalls:
    """What one visit of a row to a step asks: `calls` calls, their tokens over the sample.

    `prompts` holds the prompt's tokens of every sampled row; `most_prompts` the most they can be
    billed as, where every answer before is as long as it may be. `answer` and `most_answer` are
    tokens of one completion. `retry` marks the visit of a rejected row. `counted` says by what
    tokens were counted.
    """

    step: str
    role: str
    calls: int
    prompts: tuple[int, ...]
    most_prompts: tuple[int, ...]
    answer: int
    most_answer: int
    retry: bool = False
    counted: str = ""
    unrendered: int = 0

    @property
    def prompt_mean(self) -> float:
        """The mean prompt, in tokens."""
        return sum(self.prompts) / len(self.prompts) if self.prompts else 0.0

    @property
    def prompt_error(self) -> float:
        """The standard error of that mean."""
        n = len(self.prompts)
        if n < 2:
            return 0.0
        mean = self.prompt_mean
        return math.sqrt(sum((p - mean) ** 2 for p in self.prompts) / (n - 1) / n)


def take_sample(plan: Plan, source: Source | None, count: int = SAMPLE_ROWS) -> Sample:
    """The rows a pilot would begin with, in one pass that counts the others."""
    seed = plan.pipeline.seed
    if source is None:
        return Sample(tuple(invent_rows(seed, "estimate", 0, count)), None)
    seen = _Seen()
    rows = read_rows(source, plan.pipeline)
    chosen = sample_rows(seen.count(rows), seed, count)
    return Sample(tuple(chosen), seen.rows, seen.unreadable)


@dataclass
class _Seen:
    """Counts rows as they go by; those that cannot be read are rows too, and are never asked about."""

    rows: int = 0
    unreadable: int = 0

    def count(self, rows: Iterator[SourceRow]) -> Iterator[SourceRow]:
        for row in rows:
            self.rows += 1
            if row.error is None:
                yield row
            else:
                self.unreadable += 1


@dataclass
class _Counting:
    """The sample's rows as they grow from step to step, with answers expected or as long as can be."""

    plan: Plan
    assumed: Assumptions
    rows: list[dict[str, Any]]
    longest: list[dict[str, Any]]
    problems: list[str]
    counters: dict[str, tuple[Counter, str]] = field(default_factory=dict)

    def counter(self, role: str) -> tuple[Counter, str]:
        """What counts for a role: its model, or bytes where the model cannot be made here."""
        if role not in self.counters:
            place = self.plan.pipeline.place(f"models.{role}.model")
            settings = self.plan.pipeline.models[role]
            try:
                model = self.plan.models.get(settings, place)
                remote = isinstance(model, RemoteModel)
                self.counters[role] = (model, _ESTIMATED if remote else _EXACT)
            except (ModelError, MissingExtraError) as error:
                self.counters[role] = (ByteCounter(), f"{BYTES_PER_TOKEN} bytes a token")
                self.problems.append(
                    f"Tokens for '{role}' are counted as {BYTES_PER_TOKEN} bytes each: {error.problem}"
                )
        return self.counters[role]

    def count(
        self, role: str, render: Callable[[dict[str, Any]], Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Prompt tokens of every row, expected and longest; rows that do not render are counted."""
        counter, _ = self.counter(role)
        bound = _bound_by(counter)
        found: list[tuple[int, int]] = []
        for row, longest in zip(self.rows, self.longest, strict=True):
            try:
                expected, most = render(row), render(longest)
                found.append((_count(counter, expected), bound(most)))
            except PromptFileError:
                continue
        expected_all, most_all = zip(*found, strict=True) if found else ((), ())
        return tuple(expected_all), tuple(most_all), len(self.rows) - len(found)

    def stand_in(self, column: str, role: str, expected: int, most: int) -> None:
        """Write a column as the step would: text of the expected and of the greatest length."""
        counter, _ = self.counter(role)
        for rows, tokens in ((self.rows, expected), (self.longest, most)):
            text = write_text(counter, tokens)
            for row in rows:
                row[column] = text
                row[f"{column}_tokens"], row[f"{column}_finish_reason"] = tokens, "stop"


def count_steps(
    plan: Plan, sample: Sample, assumed: Assumptions, problems: list[str]
) -> list[StepCalls]:
    """What a visit to each step that asks a model takes; a retry's visit is listed beside its step.

    The judge of the evaluation comes last, as if it judged rows of the run.
    `problems` gets a sentence for each role whose own tokenizer cannot be had here.
    """
    first = [{**row.columns, "id": row.row_id} for row in sample.rows]
    counting = _Counting(plan, assumed, first, [dict(row) for row in first], problems)
    found: list[StepCalls] = []
    for step in plan.pipeline.steps:
        if isinstance(step, GenerateStep):
            _draw(counting, sample, step)
            found += _count_generate(counting, step)
        elif isinstance(step, CriticStep):
            found.append(_count_critic(counting, step))
        elif not isinstance(step, CheckStep):
            found += _count_judge(counting, step)
    if plan.pipeline.scoring is not None:
        found += _count_judge(counting, plan.pipeline.scoring)
    return found


def write_text(counter: Counter, tokens: int) -> str:
    """English text of about so many tokens, as the counter counts them."""
    each = counter.count_tokens(_FILLER * 16) / (16 * len(_FILLER))
    length = round(tokens / max(each, 1e-6))
    return (_FILLER * (length // len(_FILLER) + 1))[:length].strip()


def _count_generate(counting: _Counting, step: GenerateStep) -> list[StepCalls]:
    plan = counting.plan
    limit = plan.pipeline.effective_sampling(step).get("max_tokens")
    expected = counting.assumed.expected(step.id, limit)
    most = limit or max(expected, counting.assumed.answer)
    _, counted = counting.counter(step.model)
    visits = [(plan.prompts[step.id], False)]
    retry = plan.retry
    if retry is not None and retry.step == step.id:
        visits.append((plan.prompts.get(f"{step.id}@retry", plan.prompts[step.id]), True))
    found = []
    for prompt, retried in visits:
        prompts, longest, unrendered = counting.count(step.model, prompt.render)
        found.append(
            StepCalls(
                step.id, step.model, 1, prompts, longest, expected, most, retried, counted,
                unrendered,
            )
        )  # fmt: skip
    counting.stand_in(step.into, step.model, expected, most)
    return found


def _count_critic(counting: _Counting, step: CriticStep) -> StepCalls:
    prompt = counting.plan.prompts[step.id]

    def render(row: dict[str, Any]) -> Any:
        return prompt.render(row, a=prompt.positive, b=prompt.negative)

    prompts, longest, unrendered = counting.count(step.model, render)
    _, counted = counting.counter(step.model)
    return StepCalls(
        step.id, step.model, 2, prompts, longest, 1, 1, counted=counted, unrendered=unrendered
    )


def _count_judge(counting: _Counting, step: JudgeStep) -> list[StepCalls]:
    """A judge reads the row's text after its rubric, and writes a verdict: both lengths assumed.

    Every role of a panel is asked; the dearer one of a cascade is counted as if it always were.
    """

    def render(row: dict[str, Any]) -> str:
        return "\n".join(value for value in row.values() if isinstance(value, str))

    limit = counting.plan.pipeline.effective_sampling(step).get("max_tokens")
    expected = counting.assumed.tokens.get(step.id, VERDICT_TOKENS)
    found = []
    for role in step.roles:
        prompts, longest, _ = counting.count(role, render)
        found.append(
            StepCalls(
                step.id,
                role,
                1,
                tuple(tokens + RUBRIC_TOKENS for tokens in prompts),
                tuple(tokens + RUBRIC_TOKENS for tokens in longest),
                min(expected, limit or expected),
                limit or 2 * expected,
                counted=f"the row's text and {RUBRIC_TOKENS} tokens of rubric",
            )
        )
    return found


def _draw(counting: _Counting, sample: Sample, step: GenerateStep) -> None:
    if not step.vary:
        return
    subjects = [Subject(row.row_id, row.source_id, 0, 0) for row in sample.rows]
    drawn = draw_columns(step.vary, counting.plan.pipeline.seed, subjects)
    for name, values in drawn.items():
        for row, longest, value in zip(counting.rows, counting.longest, values, strict=True):
            row[name] = longest[name] = value


def _count(counter: Counter, prompt: str | Sequence[Message]) -> int:
    if isinstance(prompt, str):
        return counter.count_tokens(prompt)
    contents = [counter.count_tokens(message.content) + MESSAGE_TOKENS for message in prompt]
    return sum(contents) + REPLY_TOKENS


def _bound_by(counter: Counter) -> Callable[[str | tuple[Message, ...]], int]:
    """What a run would reserve for a prompt: the most it may be billed as."""
    if not isinstance(counter, RemoteModel):  # takes longer to see than a prompt to count
        return lambda prompt: _count(counter, prompt)
    return lambda prompt: max(counter.bound_tokens(Request("", prompt)), _count(counter, prompt))
