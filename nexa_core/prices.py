"""What tokens cost: rates in integer nano-dollars, the shipped price book, and the rates of a role.

Nothing here asks a network. What is not known is None, never 0.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexa_core.errors import StoreError
from nexa_core.records import Usage

if TYPE_CHECKING:
    from nexa_core.pipeline.roles import Price, Role

__all__ = [
    "STALE_DAYS",
    "PriceBook",
    "Rates",
    "is_local",
    "rates_of",
    "read_price_book",
    "warn_of_age",
]

STALE_DAYS = 30
"""Prices known for longer than this are worth a warning."""

BOOK_PATH = Path(__file__).with_name("prices.jsonl")
_PER_MILLION = 10**6
_NANO = 10**9
_LOCAL = ("local", "hf")
_OWN_HOSTS = {
    "anthropic": "api.anthropic.com",
    "cerebras": "api.cerebras.ai",
    "cohere": "api.cohere.com",
    "dashscope": "dashscope-intl.aliyuncs.com",
    "deepinfra": "api.deepinfra.com",
    "deepseek": "api.deepseek.com",
    "fireworks_ai": "api.fireworks.ai",
    "gemini": "generativelanguage.googleapis.com",
    "groq": "api.groq.com",
    "mistral": "api.mistral.ai",
    "moonshot": "api.moonshot.ai",
    "openai": "api.openai.com",
    "openrouter": "openrouter.ai",
    "perplexity": "api.perplexity.ai",
    "together_ai": "api.together.xyz",
    "xai": "api.x.ai",
}
"""Where the book's prices hold; the regional hosts of some providers are dearer."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model's tokens cost, in nano-dollars per million tokens.

    `input` is for prompt tokens that no cache served, `cached_input` for those that one did,
    `cache_write` for those that the provider stored in one; `reasoning` is for the part of the
    completion that was thought. `tiers` holds, by rising threshold, the rates of a whole call whose
    prompt has more tokens than that; `batch` the rates in the provider's batch endpoint.
    `context` and `max_output` are in tokens, `date` is the ISO day on which the rates were known.
    """

    input: int
    output: int
    cached_input: int
    cache_write: int
    reasoning: int
    tiers: tuple[tuple[int, Rates], ...] = ()
    batch: Rates | None = None
    context: int | None = None
    max_output: int | None = None
    date: str | None = None

    @classmethod
    def of(cls, price: Price) -> Rates:
        """The rates of a pipeline's own `price:`, taken as written, for batches too."""
        output, into = _nano(price.output), _nano(price.input)
        cached = into if price.cached_input is None else _nano(price.cached_input)
        return cls(into, output, cached, into, output)

    def cost(self, usage: Usage) -> int:
        """What a call with this usage costs, in nano-dollars, rounded up.

        Cached and written tokens are parts of the prompt, reasoning tokens of the completion; what
        a reply says of its own price (`usage.cost_nano`) is not looked at.
        """
        rates = self._for(usage.prompt_tokens)
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        written = min(usage.cache_write_tokens, usage.prompt_tokens - cached)
        thought = min(usage.reasoning_tokens, usage.completion_tokens)
        return _rounded_up(
            (usage.prompt_tokens - cached - written) * rates.input
            + cached * rates.cached_input
            + written * rates.cache_write
            + (usage.completion_tokens - thought) * rates.output
            + thought * rates.reasoning
        )

    def bound(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that a call with at most so many tokens can cost, in nano-dollars, rounded up.

        No token is taken for cached, every token for the dearest kind, and every tier that so long
        a prompt may reach is considered.
        """
        reached = [rates for above, rates in self.tiers if prompt_tokens > above]
        return _rounded_up(
            max(
                prompt_tokens * max(rates.input, rates.cached_input, rates.cache_write)
                + completion_tokens * max(rates.output, rates.reasoning)
                for rates in (self, *reached)
            )
        )

    def batched(self) -> Rates:
        """The rates in the provider's batch endpoint; these, where no others are known."""
        return self.batch or self

    def _for(self, prompt_tokens: int) -> Rates:
        chosen = self
        for above, rates in self.tiers:
            if prompt_tokens > above:
                chosen = rates
        return chosen


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of many models on one day. `hash` identifies the content, `sources` its origin."""

    date: str
    hash: str
    sources: tuple[Mapping[str, Any], ...]
    lines: Mapping[str, str]
    """The line of each model's own name, read when asked for."""

    def find(self, reference: str) -> Rates | None:
        """The rates of provider/model as a pipeline writes it; None where the book has not exactly it."""
        line = self.lines.get(reference)
        if line is None:
            return None
        entry = json.loads(line, parse_float=Decimal)
        return _read_rates(entry, str(self.sources[entry.get("source", 0)]["date"]))

    def age_days(self, rates: Rates | None = None, today: dt.date | None = None) -> int:
        """How many days ago the book, or one of its entries, was known to hold."""
        known = dt.date.fromisoformat((rates.date if rates else None) or self.date)
        return ((today or dt.datetime.now(dt.UTC).date()) - known).days


@cache
def read_price_book(path: Path = BOOK_PATH) -> PriceBook:
    """The shipped price book, read once.

    Raises:
        StoreError: The file is not there, or its content is not what its first line says.
    """
    try:
        first, _, content = path.read_bytes().partition(b"\n")
        header = json.loads(first)
        found = hashlib.sha256(content).hexdigest()
        if found != header["sha256"]:
            raise ValueError("its content does not have the hash in its first line")
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise StoreError(
            f"The price book '{path}' cannot be used: {cause}.",
            "Install nexa again, or give every paid role a `price:`.",
        ) from cause
    start = len('{"model": "')
    lines = {line[start : line.index('"', start)]: line for line in content.decode().splitlines()}
    return PriceBook(header["date"], found, tuple(header["sources"]), lines)


def is_local(role: Role) -> bool:
    """Whether the model runs in this process: it costs machine time, not tokens."""
    return role.provider in _LOCAL


def rates_of(role: Role) -> Rates | None:
    """What a role's tokens cost: its own `price:`, else the book's where it holds, else None.

    The book holds for a provider's own host and for its standard service tier. These are the rates
    of single calls, for a role with `batch: true` too: what goes into a batch costs `batched()`. A
    local role has no rates: see `is_local`.
    """
    if role.price is not None:
        return Rates.of(role.price)
    if is_local(role) or not _is_at_home(role) or not _is_standard(role.extra_body):
        return None
    return read_price_book().find(role.model)


def warn_of_age(roles: Mapping[str, Role], today: dt.date | None = None) -> list[str]:
    """One sentence for the roles whose prices are older than 30 days; nothing where none are."""
    book = read_price_book()
    old: dict[str, int] = {}
    for name, role in roles.items():
        rates = rates_of(role) if role.price is None else None
        if rates is not None and book.age_days(rates, today) > STALE_DAYS:
            old[name] = book.age_days(rates, today)
    if not old:
        return []
    named = ", ".join(f"'{name}' ({days} days)" for name, days in sorted(old.items()))
    problem = f"The price book's prices may be out of date for {named}."
    fix = "Update nexa, or write what you pay as `price: {input: …, output: …}`, in dollars per million tokens."
    return [f"{problem} {fix}"]


def _is_at_home(role: Role) -> bool:
    if role.base_url is None:
        return True
    parts = urlsplit(role.base_url)
    return parts.scheme == "https" and parts.hostname == _OWN_HOSTS.get(role.provider)


def _is_standard(extra_body: Mapping[str, Any]) -> bool:
    """Priority tiers are dearer than the book; cheaper ones are covered by it."""
    return extra_body.get("service_tier", "default") in ("default", "flex", "auto", "standard_only")


def _read_rates(entry: Mapping[str, Any], known_on: str) -> Rates:
    into, output = _nano(entry["input"]), _nano(entry["output"])
    rates = Rates(
        into,
        output,
        _nano(entry.get("cached_input", entry["input"])),
        _nano(entry.get("cache_write", entry["input"])),
        _nano(entry.get("reasoning", entry["output"])),
        _read_tiers(entry.get("above", {}).items(), known_on),
        context=entry.get("context"),
        max_output=entry.get("max_output"),
        date=known_on,
    )
    batch = entry.get("batch")
    if batch is None:
        return rates
    batched = _read_rates(batch, known_on)
    batched = replace(batched, context=rates.context, max_output=rates.max_output)
    return replace(rates, batch=batched)


def _read_tiers(
    tiers: Iterable[tuple[str, Mapping[str, Any]]], known_on: str
) -> tuple[tuple[int, Rates], ...]:
    found = [(int(above), _read_rates(tier, known_on)) for above, tier in tiers]
    return tuple(sorted(found, key=lambda tier: tier[0]))


def _nano(dollars: float | Decimal) -> int:
    """Dollars as nano-dollars, exactly where possible, else rounded up."""
    exact = Decimal(str(dollars)) * _NANO
    return int(exact.to_integral_value(ROUND_CEILING))


def _rounded_up(nano_millionths: int) -> int:
    return -(-nano_millionths // _PER_MILLION)
