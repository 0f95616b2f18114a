"""What a chaos server is told: how it answers, what it charges, what goes wrong, what it can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nexa_core.testing.chaos.answers import Answer
from nexa_core.testing.chaos.capacity import Capacity
from nexa_core.testing.chaos.faults import Faults

__all__ = ["Prices", "Settings"]


@dataclass(frozen=True, slots=True)
class Prices:
    """Nano-dollars per million tokens, and the share of them that a batch costs."""

    input: int = 150_000_000
    output: int = 600_000_000
    cached_input: int = 75_000_000
    batch_share: float = 0.5

    def cost(self, prompt: int, completion: int, cached: int = 0, share: float = 1.0) -> int:
        """The bill in nano-dollars, rounded up."""
        parts = (prompt - cached) * self.input + cached * self.cached_input
        parts += completion * self.output
        return -(-int(parts * share) // 1_000_000)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about a chaos server; the defaults answer at once, faultlessly, to any key and model.

    Args:
        seed: Of answers and faults.
        port: 0 takes a free one.
        key: The only one accepted, where given; another is refused with 401.
        models: The only ones known, where given; another is refused with 404.
        answers: Given texts, or a JSONL file of them; what matches none is answered with prose.
        approval: The share of verdicts (JSON by a schema with numbers from 0 to 1) whose numbers are all
            0.8 and more; no verdict raises flags then. Without it, numbers and flags are drawn evenly.
        modes: The ways of asking for JSON that are taken; a request in another gets status 400.
        text_chars: Median length of prose; `text_spread` is the standard deviation of its logarithm.
        latency: Seconds until an answer; `jitter` adds up to that many, `token_seconds` per token.
        most_faults: After this many tries that went wrong a request is answered.
        slow_seconds: How long slow faults take; `hang_seconds` how long hung ones.
        retry_after: Seconds a 429 asks to wait.
        redirect_to: Where redirects lead; by default this server under another host name.
        bills_maximum: Every answer is charged for all the tokens that it was allowed.
        states_cost: Usage holds the bill in dollars, as OpenRouter's does.
        providers: Names for the reply's `provider` field, one drawn per request.
        rate_headers: Replies say what is left, in `x-ratelimit-*`.
        options: Tokens that compete for the first place where log-probabilities are asked.
        batch_seconds: How long a batch takes.
        log_path: Where the log is written; without it, it is kept in memory.
    """

    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    key: str | None = None
    models: tuple[str, ...] = ()
    answers: Path | tuple[Answer, ...] = ()
    approval: float | None = None
    modes: tuple[str, ...] = ("schema", "tool", "object", "plain")
    text_chars: int = 1400
    text_spread: float = 0.3
    latency: float = 0.0
    jitter: float = 0.0
    token_seconds: float = 0.0
    capacity: Capacity = field(default_factory=Capacity)
    faults: Faults = field(default_factory=Faults)
    most_faults: int | None = None
    slow_seconds: float = 2.0
    hang_seconds: float = 3600.0
    retry_after: float = 1.0
    redirect_to: str | None = None
    prices: Prices = field(default_factory=Prices)
    bills_maximum: bool = False
    states_cost: bool = False
    cached_share: float = 0.0
    reasoning_tokens: int = 0
    providers: tuple[str, ...] = ()
    rate_headers: bool = False
    options: tuple[str, ...] = ("A", "B", "yes", "no", "1", "2", "3", "4", "5")
    batch_seconds: float = 0.0
    log_path: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything as values that JSON knows."""
        values = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The settings that `as_json` gave."""
        known = dict(values)
        answers = known["answers"]
        known["answers"] = (
            Path(answers) if isinstance(answers, str) else tuple(Answer(**one) for one in answers)
        )
        known |= {name: tuple(known[name]) for name in ("models", "providers", "options", "modes")}
        known["capacity"] = Capacity(**known["capacity"])
        known["faults"] = Faults(**known["faults"])
        known["prices"] = Prices(**known["prices"])
        known["log_path"] = Path(known["log_path"]) if known["log_path"] else None
        return cls(**known)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with some replaced, as JSON gives them.

        `capacity` may be a number (of concurrent requests) or an object of what changes in it,
        `faults` the name of a preset or an object of rates.

        Raises:
            ValueError: a name or a value is none that can change.
        """
        values = dict(changes)
        fixed = set(values) - _CHANGEABLE
        if fixed:
            raise ValueError(f"Cannot change {', '.join(sorted(fixed))} of a running server.")
        capacity, faults = values.get("capacity"), values.get("faults")
        try:
            if isinstance(capacity, Mapping):
                values["capacity"] = replace(self.capacity, **capacity)
            elif "capacity" in values:
                values["capacity"] = replace(self.capacity, concurrent=capacity)
            if isinstance(faults, str):
                values["faults"] = Faults.named(faults)
            elif isinstance(faults, Mapping):
                values["faults"] = Faults(**faults)
            return replace(self, **values)
        except TypeError as cause:
            raise ValueError(str(cause)) from cause


_CHANGEABLE = {
    *("capacity", "faults", "most_faults", "latency", "jitter", "token_seconds", "slow_seconds"),
    *(
        "hang_seconds",
        "retry_after",
        "bills_maximum",
        "states_cost",
        "batch_seconds",
        "rate_headers",
    ),
}
