"""What is asked about a row: the request, its seed, and the identity by which its reply is found again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from nexa_core.protocols import Model
from nexa_core.records import Message, Request, canonical_json

Tools = Sequence[Mapping[str, Any]]


class Subject(NamedTuple):
    """Which row a call is about, as far as the call's identity knows it."""

    row_id: str
    source_id: str
    sample: int
    attempt: int
    ask: int = 0


@dataclass(frozen=True)
class RequestForm:
    """All that the requests of one step have in common; `fill` adds prompt and row.

    `seed` is the run's. `stop` given in the sampling adds to the prompt's own. `options` are those of
    a choice, by whose log-probabilities it is made. `extra_body` is what the role adds to every request,
    `endpoint` where it sends them: host and path, empty for the provider's own.
    """

    model: Model
    seed: int
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: Sequence[str] = ()
    schema: Mapping[str, Any] | None = None
    options: Sequence[str] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    endpoint: str = ""

    def fill(
        self, prompt: str | tuple[Message, ...], subject: Subject, tools: Tools | None = None
    ) -> Request:
        """The request about a row, with the identity of its call."""
        seed = derive_seed(self.seed, subject)
        # Everything the reply may depend on, and which row it is for: canonical JSON, keys sorted.
        model, sampling, stop = self._constant
        row = canonical_json(list(subject[1:]))
        text = (
            f'{{{model}"prompt":{canonical_json(plain_prompt(prompt))},"row":{row},'
            f'{sampling}"seed":{seed},{stop}"tools":{canonical_json(tools) if tools is not None else "null"}}}'
        )
        identity = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        return Request(identity, prompt, self._sampling, self._stop, seed, self.schema, tools)

    @cached_property
    def _sampling(self) -> dict[str, Any]:
        return {name: value for name, value in self.sampling.items() if name != "stop"}

    @cached_property
    def _stop(self) -> tuple[str, ...]:
        given = self.sampling.get("stop") or ()
        extra = (given,) if isinstance(given, str) else tuple(given)
        return tuple(dict.fromkeys((*self.stop, *extra)))

    @cached_property
    def _constant(self) -> tuple[str, str, str]:
        """What of an identity is the same for every row, as it stands between what is not."""
        model = canonical_json([self.model.name, self.model.revision])
        options, stop = canonical_json(list(self.options)), canonical_json(list(self._stop))
        sampling, schema = canonical_json(self._sampling), canonical_json(self.schema)
        extra = f'"extra_body":{canonical_json(self.extra_body)},' if self.extra_body else ""
        where = f'"endpoint":{canonical_json(self.endpoint)},' if self.endpoint else ""
        return (
            f'{where}{extra}"model":{model},"options":{options},',
            f'"sampling":{sampling},"schema":{schema},',
            f'"stop":{stop},',
        )


def derive_seed(run_seed: int, subject: Subject) -> int:
    """The seed of a request, in 0 … 2^53: a hash of the run's seed and what the call is about."""
    text = f"{run_seed}/{subject.source_id}/{subject.sample}/{subject.attempt}/{subject.ask}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def describe_request(request: Request) -> str:
    """A request as JSON, as it is kept beside its reply."""
    return canonical_json(
        {
            "prompt": plain_prompt(request.prompt),
            "sampling": dict(request.sampling),
            "stop": list(request.stop),
            "seed": request.seed,
        }
    )


def plain_prompt(prompt: str | tuple[Message, ...]) -> str | list[list[Any]]:
    """A text, or of each message role and content, and its tool calls where it has any."""
    if isinstance(prompt, str):
        return prompt
    plain: list[list[Any]] = []
    for message in prompt:
        turn: list[Any] = [message.role, message.content]
        if message.tool_calls or message.tool_call_id:
            turn += [message.tool_calls, message.tool_call_id]
        plain.append(turn)
    return plain
