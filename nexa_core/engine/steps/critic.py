"""The critic step: single-token log-probabilities of two labels, averaged over both label orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nexa_core.engine.batch import Batch
from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.steps.asking import (
    fail_rows,
    flow,
    note_calls,
    render_rows,
    scatter,
    subjects_of,
)
from nexa_core.engine.steps.stream import Stream
from nexa_core.engine.tries import Caller
from nexa_core.prompts import Prompt

LABELS = (" A", " B")
"""The answer tokens: one token each, as they follow a prompt that ends in a colon."""


@dataclass
class Critic:
    """Scores a row by log P(positive) − log P(negative) in nats, the mean over both label orders.

    Averaging over the orders cancels the model's preference for a label; see Constitutional AI
    (Bai et al. 2022, section 4.1) and Zheng et al. 2023 on position bias.
    """

    id: str
    caller: Caller
    calls: Calls
    prompt: Prompt
    seed: int

    def run(self, batches: Stream) -> Stream:
        return flow(self.caller, batches, self._judge)

    async def _judge(self, batch: Batch) -> Batch:
        batch, indices, prompts = render_rows(batch, self.id, self._both_orders)
        subjects = subjects_of(batch, indices)
        form = self.caller.form(self.seed, options=LABELS)
        requests = [
            form.fill(prompt, subject)
            for pair, subject in zip(prompts, subjects, strict=True)
            for prompt in pair
        ]
        doubled = [subject for subject in subjects for _ in range(2)]
        outcomes = await self.calls.choose(self.caller, requests, doubled, LABELS)
        pairs = [outcomes[at : at + 2] for at in range(0, len(outcomes), 2)]
        values = scatter([score_pair(pair) for pair in pairs], indices, len(batch), pa.float64())
        batch = note_calls(batch.with_score(self.id, values), self.caller, indices, pairs)
        errors = [next((o.error for o in pair if o.error), None) for pair in pairs]
        if self.calls.only_known:
            return batch
        return fail_rows(batch, self.id, indices, errors)

    def _both_orders(self, row: dict[str, Any]) -> tuple[Any, Any]:
        positive, negative = self.prompt.positive, self.prompt.negative
        return (
            self.prompt.render(row, a=positive, b=negative),
            self.prompt.render(row, a=negative, b=positive),
        )


def score_pair(pair: Sequence[Outcome]) -> float | None:
    """The mean over both orders of log P(positive) − log P(negative); None if a call failed."""
    if any(outcome.reply is None for outcome in pair):
        return None
    (a_first, b_first), (a_second, b_second) = (outcome.reply.logprobs for outcome in pair)
    return float(((a_first - b_first) + (b_second - a_second)) / 2)
