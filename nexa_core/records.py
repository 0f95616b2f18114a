"""The frozen values that flow through a run: requests, completions, scores, gate checks, decisions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Choice",
    "Completion",
    "Decision",
    "Evidence",
    "FinishReason",
    "GateCheck",
    "Message",
    "Opinion",
    "Quota",
    "Request",
    "Row",
    "Score",
    "ScoreColumns",
    "State",
    "StrictJson",
    "Training",
    "Usage",
    "Verdict",
    "canonical_json",
    "content_hash",
]

Row = Mapping[str, Any]
"""One row as a mapping from column name to value."""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return canonical_bytes(value).decode("utf-8", "surrogatepass")


def canonical_bytes(value: object) -> bytes:
    """`canonical_json` as UTF-8, in which a lone surrogate stays what it is."""
    data = _dump(value, orjson.OPT_SORT_KEYS)
    if data is None:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass")
    return data


def encode_json(value: object) -> bytes:
    """JSON as bytes, quickly; lone surrogates, infinities and NaN are kept as they came.

    What is bytes within the value is JSON already, and is taken as it is.
    """
    data = _dump(value, default=_embed)
    if data is None:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_unpack)
        return text.encode("utf-8", "surrogatepass")
    return data


def decode_json(data: bytes) -> Any:
    """The value that `encode_json` wrote."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:  # lone surrogates, infinities and NaN
        value = None
    # An integer over 64 bits comes as a float, rounded.
    if value is None or any(abs(number) >= 2**63 for number in floats_in(value)):
        return json.loads(data.decode("utf-8", "surrogatepass"))
    return value


def _embed(value: object) -> orjson.Fragment:
    if type(value) is bytes:
        return orjson.Fragment(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _unpack(value: object) -> Any:
    if type(value) is bytes:
        return decode_json(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _dump(
    value: object, option: int = 0, default: Callable[[object], Any] | None = None
) -> bytes | None:
    """The quick way; None where it would write another value, or does not know how."""
    if not all(map(math.isfinite, floats_in(value))):
        return None
    try:
        return orjson.dumps(value, default=default, option=option)
    except TypeError:  # keys that are no text, integers over 64 bits, lone surrogates
        return None


class StrictJson(dict[str, Any]):
    """An object as a strict JSON parser gave it: it holds no NaN, no infinity and no half character."""


def floats_in(value: object) -> list[float]:
    """Every float of a value made of mappings, lists and tuples, but those of `StrictJson`."""
    if type(value) in _PLAIN or (
        type(value) is dict and _PLAIN.issuperset(map(type, value.values()))
    ):
        return []
    floats: list[float] = []
    # A list that grows while it is walked: several times as fast as recursion, and every call asks.
    found: list[Any] = [value]
    for each in found:
        kind = type(each)
        if kind in _PLAIN:
            continue
        if kind is float:
            floats.append(each)
        elif kind is dict:
            found.extend(each.values())
        elif kind is list or kind is tuple:
            found.extend(each)
        elif isinstance(each, Mapping):
            found.extend(each.values())
        elif isinstance(each, float):
            floats.append(each)
    return floats


def mend_text(text: str) -> str:
    """The text with half characters (lone surrogates) replaced, so that it can be stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def content_hash(value: object, length: int = 64) -> str:
    """SHA-256 of a value's canonical JSON, as `length` hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


class State(StrEnum):
    """What became of a row."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    """A call or a parse that did not succeed; outside every metric but `failed_rate`."""
    SURPLUS = "surplus"
    """Accepted after the wanted number was reached."""


FLAGGED = "flag: "
"""How the reason of a row begins that a flag rejected; the flag's name follows."""
REASON_HEAD = rf"(?s)\A((?:{FLAGGED})?.*?)(?:: .*)?\z"
"""A reason (RE2), its first group without the details by which rows of one kind differ."""


def name_reason(reason: str) -> str:
    """A reason as it is counted: the check, rule, step or flag, without details after a colon."""
    flag = FLAGGED if reason.startswith(FLAGGED) else ""
    return flag + reason.removeprefix(flag).partition(": ")[0]


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


_PLAIN = frozenset([str, int, bool, bytes, type(None), StrictJson, State, FinishReason])
"""Types that hold no float: what a reply as it is kept is made of, so that it is looked through quickly."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as chat endpoints take it."""

    role: str
    content: str
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model: one prompt with its sampling and seed.

    `id` is the identity of the call: same identity, same reply. `prompt` is text for completion
    endpoints and messages for chat endpoints. `sampling` holds temperature, top_p, max_tokens and
    the like, by their OpenAI names; `stop` are the sequences at which generation ends.
    """

    id: str
    prompt: str | tuple[Message, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    seed: int = 0
    schema: Mapping[str, Any] | None = None
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, and its price in nano-dollars where the reply states it.

    Of the prompt's tokens some may have come from the provider's cache (`cached_tokens`) and some
    gone into it (`cache_write_tokens`, dearer with some providers); of the completion's, some may
    have been thought (`reasoning_tokens`).
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int | None = None
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """What a provider says is left to its client, and in how many seconds it is whole again."""

    requests_left: int | None = None
    tokens_left: int | None = None
    resets_in: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer to one request.

    `text` ends before the stop sequence; `raw_text` is the text with it, as generated, where the
    model can tell, else None. `raw` is the reply as it came, for the journal. `quota` serves
    admission and is not stored.
    """

    text: str
    finish_reason: str = FinishReason.STOP
    usage: Usage = field(default_factory=Usage)
    raw_text: str | None = None
    reasoning: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None
    served_by: str | None = None
    raw: Mapping[str, Any] | None = None
    quota: Quota | None = None

    def as_json(self) -> dict[str, Any]:
        """The completion as the journal keeps it; absent parts are left out."""
        return _stored(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Completion:
        """The completion that `as_json` wrote."""
        return cls(**{**value, "usage": Usage(**value.get("usage", {}))})


@dataclass(frozen=True, slots=True)
class Choice:
    """Log-probabilities (natural log) of the offered single-token options, in the order asked."""

    logprobs: tuple[float, ...]
    usage: Usage = field(default_factory=Usage)
    served_by: str | None = None
    raw: Mapping[str, Any] | None = None
    quota: Quota | None = None

    def as_json(self) -> dict[str, Any]:
        """The choice as the journal keeps it; absent parts are left out."""
        return _stored(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Choice:
        """The choice that `as_json` wrote."""
        usage = Usage(**value.get("usage", {}))
        return cls(**{**value, "logprobs": tuple(value["logprobs"]), "usage": usage})


def _stored(reply: Completion | Choice) -> dict[str, Any]:
    """The fields that have a value; faster than `asdict`, which copies the raw reply."""
    parts: dict[str, Any] = {
        name: value
        for name in reply.__slots__
        if name not in ("quota", "usage") and (value := getattr(reply, name)) is not None
    }
    usage = reply.usage
    parts["usage"] = {name: getattr(usage, name) for name in usage.__slots__}
    return parts


@dataclass(frozen=True, slots=True)
class Score:
    """What a judge, critic or scorer found for one row; `value` is None when it could not score."""

    value: float | None
    reason: str = ""
    flags: tuple[str, ...] = ()
    criteria: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """What a check found for a table, one element per row.

    `values` is float64 (the score), `failed` is bool (the row does not pass); a null in either
    means that the check does not apply to the row. `reasons` (string) says more than the check's
    name where there is more to say.
    """

    values: pa.Array
    failed: pa.Array
    reasons: pa.Array | None = None


class Verdict(StrEnum):
    """What the evidence says about one rule of a gate."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Decision(StrEnum):
    """What a gate decided about an iteration."""

    PROCEED = "PROCEED"
    ITERATE = "ITERATE"
    EXTEND = "EXTEND"
    STOP = "STOP"


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One rule of a gate, measured: `k` of `n` rows, what that proves, and how many rows more.

    `value`, `lower` and `upper` are in the metric's own unit except for medians, whose bounds are
    those of the tested share (`k` of `n` rows under the threshold). `e_pass` and `e_fail` are the
    e-values for and against; the verdict turns at 1/alpha. `certified` is False where the rule is
    decided on the observed count or value itself. `rows_needed` is the fewest further rows that
    could turn an inconclusive rule into a pass, None where no number could within the cap;
    `rows_likely` the further rows by which a pass within the cap has come with chance one half, and
    `chance` the chance that it comes at all. `basis` is "evidence" (the sequential test), "count",
    "value" or "census" (every row there is was measured).
    """

    metric: str
    rule: str
    threshold: float
    k: float
    n: int
    value: float | None
    lower: float | None
    upper: float | None
    verdict: Verdict
    e_pass: float | None = None
    e_fail: float | None = None
    alpha: float | None = None
    certified: bool = True
    rows_needed: int | None = None
    hard: bool = True
    population: str = ""
    aggregate: str = "rate"
    basis: str = "evidence"
    chance: float | None = None
    rows_likely: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The check as records and `--json` print it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a reviewer is shown: the checks, the parameters, the space they may move in, samples.

    `search_space` maps a dotted parameter path to `{"min": …, "max": …}` or `{"choices": […]}`.
    `history` holds the checks, parameters and decision of every earlier iteration, oldest first.
    `columns` maps each generate step's id to the column it writes, in the order of the steps.
    `track` says of every earlier patch who proposed it and what became of the metrics it was for.
    """

    iteration: int
    max_iterations: int
    checks: tuple[GateCheck, ...]
    parameters: Mapping[str, Any]
    search_space: Mapping[str, Mapping[str, Any]]
    samples: tuple[Row, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    track: tuple[Mapping[str, Any], ...] = ()

    @property
    def failing(self) -> tuple[GateCheck, ...]:
        """The hard checks that do not pass."""
        return tuple(c for c in self.checks if c.hard and c.verdict is not Verdict.PASS)

    @property
    def ids(self) -> frozenset[str]:
        """What an opinion can cite: the metrics that were measured, and the sample rows."""
        return frozenset(c.metric for c in self.checks) | {
            str(row["id"]) for row in self.samples if row.get("id")
        }


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a reviewer answers: a patch after a failed gate, or a veto after a passed one.

    `changes` maps parameter paths to new values; empty means no proposal. `cites` names the
    metrics or row ids that the opinion rests on: a veto without one that is in the evidence counts
    as an abstention. `waits`: only a person can decide, and the run waits for one.
    """

    reviewer: str
    reason: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    veto: bool = False
    cites: tuple[str, ...] = ()
    raw: Mapping[str, Any] | None = None
    waits: bool = False

    def as_json(self) -> dict[str, Any]:
        """The opinion as the review record keeps it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Training:
    """What a trainer left: where the adapter lies, its loss, and how much it trained on."""

    adapter_path: Path
    loss: float
    steps: int
    rows: int
    tokens: int
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
