"""The generate step: a model answers a prompt for every row under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from nexa_core.engine.batch import Batch
from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.requests import RequestForm, Tools
from nexa_core.engine.steps.asking import (
    draw_columns,
    fail_rows,
    flow,
    note_calls,
    render_rows,
    scatter,
    subjects_of,
    vary_types,
)
from nexa_core.engine.steps.stream import Stream
from nexa_core.engine.tries import Caller
from nexa_core.prompts import Prompt
from nexa_core.records import Completion, canonical_json, mend_text


@dataclass
class Generate:
    """Adds `into` and what belongs to it: raw text, finish reason, tokens, reasoning, tool calls."""

    id: str
    caller: Caller
    calls: Calls
    prompt: Prompt
    into: str
    sampling: Mapping[str, Any]
    seed: int
    samples: int = 1
    vary: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def run(self, batches: Stream) -> Stream:
        return flow(self.caller, self._spread(batches), self._answer)

    async def _spread(self, batches: Stream) -> Stream:
        async for batch in batches:
            yield self._varied(spread_samples(batch, self.samples))

    def _varied(self, batch: Batch) -> Batch:
        if not self.vary:
            return batch
        everyone = np.arange(len(batch))
        drawn = draw_columns(self.vary, self.seed, subjects_of(batch, everyone))
        for name, choices in vary_types(self.vary).items():
            batch = batch.with_column(name, pa.array(drawn[name], choices.type))
        return batch

    async def _answer(self, batch: Batch) -> Batch:
        batch, indices, rendered = render_rows(batch, self.id, self._render)
        subjects = subjects_of(batch, indices)
        requests = [
            self._form.fill(prompt, subject, tools)
            for (prompt, tools), subject in zip(rendered, subjects, strict=True)
        ]
        outcomes = await self.calls.complete(self.caller, requests, subjects)
        batch = self._with_answers(batch, indices, outcomes)
        batch = note_calls(batch, self.caller, indices, [[outcome] for outcome in outcomes])
        return fail_rows(batch, self.id, indices, [outcome.error for outcome in outcomes])

    @cached_property
    def _form(self) -> RequestForm:
        return self.caller.form(self.seed, sampling=self.sampling, stop=self.prompt.stop)

    def _render(self, row: dict[str, Any]) -> tuple[Any, Tools | None]:
        """What is asked, and the tools on offer where the row's own conversation is continued."""
        tools = self.prompt.read_tools(row) if self.prompt.continues else None
        return self.prompt.render(row), tools

    def _with_answers(
        self, batch: Batch, indices: np.ndarray, outcomes: Sequence[Outcome]
    ) -> Batch:
        answers = [outcome.reply for outcome in outcomes]
        for name, values, kind, always in answer_columns(self.into, answers):
            if always or any(value is not None for value in values):
                batch = batch.with_column(name, scatter(values, indices, len(batch), kind))
        return batch


def answer_columns(
    into: str, answers: Sequence[Completion | None]
) -> list[tuple[str, list[Any], pa.DataType, bool]]:
    """The columns a completion gives: name, values, type, and whether it is there in any case.

    The text is kept without the white space around it: where a record's text begins after a colon
    or a number, the space belongs to the record. `_raw_text` has it as generated.
    """

    def each(read: Any) -> list[Any]:
        return [None if answer is None else read(answer) for answer in answers]

    return [
        (into, each(lambda a: mend_text(a.text).strip()), pa.string(), True),
        (f"{into}_raw_text", each(lambda a: _mended(a.raw_text)), pa.string(), True),
        (f"{into}_finish_reason", each(lambda a: str(a.finish_reason)), pa.string(), True),
        (f"{into}_tokens", each(lambda a: a.usage.completion_tokens), pa.int32(), True),
        (f"{into}_reasoning", each(lambda a: _mended(a.reasoning)), pa.string(), False),
        (f"{into}_tool_calls", each(_tool_calls), pa.string(), False),
    ]


def _mended(text: str | None) -> str | None:
    return None if text is None else mend_text(text)


def _tool_calls(answer: Completion) -> str | None:
    return canonical_json(list(answer.tool_calls)) if answer.tool_calls else None


def spread_samples(batch: Batch, samples: int) -> Batch:
    """Every row `samples` times, numbered 0, 1, …; the first keeps the row's id."""
    if samples == 1:
        return batch
    spread = batch.take(np.repeat(np.arange(len(batch)), samples))
    numbers = np.tile(np.arange(samples, dtype=np.int32), len(batch))
    ids = [
        row if number == 0 else f"{row}~{number}"
        for row, number in zip(spread.table["id"].to_pylist(), numbers.tolist(), strict=True)
    ]
    return replace(spread.with_column("id", pa.array(ids)), sample=pa.array(numbers))
