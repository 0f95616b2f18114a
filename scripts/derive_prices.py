"""Derives nexa_core/prices.jsonl from the price maps inside installed litellm packages.

    uv run --with litellm==VERSION scripts/derive_prices.py --date RELEASED
    python scripts/derive_prices.py MAP.json=VERSION@DATE [OLDER.json=VERSION@DATE:PROVIDER,…]

The map is read as a file; no litellm code runs. A second map serves only for the providers named
with it, which the first no longer has; their entries keep its date.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

BOOK_PATH = Path(__file__).parent.parent / "nexa_core" / "prices.jsonl"
MAP_NAME = "model_prices_and_context_window_backup.json"
MODES = ("chat", "completion", "responses")
FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
NOT_ONLY_TOKENS = (
    "citation_cost_per_token",
    "cost_per_second",
    "input_cost_per_request",
    "output_cost_per_audio_token",
    "output_cost_per_image",
    "output_cost_per_image_token",
    "output_cost_per_video_token",
)
"""Where one of these is there, tokens of text are not all that is paid."""
SEARCHES = ("search-preview", "search-api", "deep-research", "-online", "sonar")
"""Models that search by themselves, and are paid for it per query."""
ELSEWHERE = ("azure", "azure_text", "azure_ai", "sagemaker", "ollama")
"""Providers whose model names are the user's own words for what they deployed."""
ALIASES = {
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "text-completion-openai": "openai",
    "cohere_chat": "cohere",
}
SIZES = ("together-ai-", "fireworks-ai-")
"""Names of price classes, which are no models."""


class Map(NamedTuple):
    """A price map: where it lies, whose it is, and the providers it serves (all, if empty)."""

    path: Path
    version: str
    date: str
    providers: tuple[str, ...] = ()


def read_arguments(arguments: list[str]) -> list[Map]:
    """The maps named on the command line, or the installed one."""
    if arguments[:1] == ["--date"]:
        package = distribution("litellm")
        path = Path(str(package.locate_file(f"litellm/{MAP_NAME}")))
        return [Map(path, package.version, arguments[1])]
    maps = []
    for argument in arguments:
        path, _, rest = argument.partition("=")
        version, _, rest = rest.partition("@")
        date, _, providers = rest.partition(":")
        maps.append(Map(Path(path), version, date, tuple(filter(None, providers.split(",")))))
    return maps


def derive(source: Map) -> Iterator[tuple[str, dict[str, Any]]]:
    """The references and prices of a map's models that are paid by the token alone."""
    content = json.loads(source.path.read_text(), parse_float=Decimal)
    for key, entry in sorted(content.items(), key=lambda item: "/" in item[0]):
        provider = str(entry.get("litellm_provider", ""))
        if (source.providers and provider not in source.providers) or not is_kept(key, entry):
            continue
        if (prices := read_prices(entry)) is not None:
            yield name_model(key, provider), prices | read_limits(entry)


def is_kept(key: str, entry: Mapping[str, Any]) -> bool:
    """Whether a line is of a model that is asked for text and paid by the token alone."""
    return (
        entry.get("mode") in MODES
        and entry["litellm_provider"] not in ELSEWHERE
        and not any(entry.get(field) for field in NOT_ONLY_TOKENS)
        and not any(word in key for word in SEARCHES)
        and not key.startswith(SIZES)
    )


def name_model(key: str, provider: str) -> str:
    """The reference that a pipeline writes for a line of the map."""
    family = "vertex_ai" if provider.startswith("vertex_ai-") else provider
    family = ALIASES.get(family, family)
    return key if key.partition("/")[0] == family else f"{family}/{key}"


def read_prices(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Dollars per million tokens, with tiers and batches; None where a price is missing or 0."""
    ranges = sorted(entry.get("tiered_pricing", ()), key=lambda tier: tier["range"][0])
    prices = read_flat(ranges[0] if ranges else entry, "")
    if prices is None:
        return None
    tiers = {str(int(tier["range"][0])): read_flat(tier, "", prices) for tier in ranges[1:]}
    tiers |= {str(above): read_flat(entry, mark, prices) for above, mark in find_tiers(entry)}
    batch = read_batch(entry, prices)
    return prices | ({"above": tiers} if tiers else {}) | ({"batch": batch} if batch else {})


def find_tiers(entry: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The thresholds, in prompt tokens, above which a call has other prices."""
    start, end = FIELDS["input"] + "_above_", "k_tokens"
    marks = [key for key in entry if key.startswith(start) and key.endswith(end)]
    return sorted(
        (int(key.removeprefix(start).removesuffix(end)) * 1000, key.removeprefix(FIELDS["input"]))
        for key in marks
    )


def read_batch(entry: Mapping[str, Any], prices: dict[str, Any]) -> dict[str, Any] | None:
    """The prices of the batch endpoint. What is not stated for it is not taken for cheaper."""
    batch = read_flat(entry, "_batches")
    if batch is None:
        return None
    if "cache_write" in prices:
        batch.setdefault("cache_write", prices["cache_write"])
    tiers = {}
    for above, mark in find_tiers(entry):
        plain = read_flat(entry, mark, prices)
        tiers[str(above)] = read_flat(entry, f"{mark}_batches", plain) if plain else None
    return batch | ({"above": tiers} if tiers else {})


def read_flat(
    entry: Mapping[str, Any], mark: str, default: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The prices whose names end in `mark`; what a tier does not state is as without it."""
    found = {
        name: per_million(entry[field + mark])
        for name, field in FIELDS.items()
        if entry.get(field + mark)
    }
    found = {**(default or {}), **found}
    if "input" not in found or "output" not in found or min(found.values()) <= 0:
        return None
    return {name: found[name] for name in FIELDS if name in found}


def per_million(per_token: Decimal | int | str) -> float | int:
    """Dollars per million tokens, without the noise of binary floats (12 digits are kept)."""
    exact = Decimal(f"{Decimal(per_token):.11e}") * 10**6
    return int(exact) if exact == int(exact) else float(exact)


def read_limits(entry: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of the context and of the longest answer, where known."""
    names = {"context": "max_input_tokens", "max_output": "max_output_tokens"}
    return {
        name: int(entry[key])
        for name, key in names.items()
        if isinstance(entry.get(key), int) and entry[key] > 0
    }


def write_book(maps: list[Map], path: Path = BOOK_PATH) -> int:
    """Write the book of several maps, the first winning; returns the number of models."""
    found: dict[str, dict[str, Any]] = {}
    for number, source in enumerate(maps):
        for reference, entry in derive(source):
            if number == 0 or reference not in found:
                found[reference] = entry | ({"source": number} if number else {})
    lines = [json.dumps({"model": name, **found[name]}) for name in sorted(found)]
    content = "".join(line + "\n" for line in lines).encode()
    header = {
        "format": 1,
        "date": maps[0].date,
        "sha256": hashlib.sha256(content).hexdigest(),
        "unit": "US dollars per million tokens",
        "sources": [describe(source) for source in maps],
    }
    path.write_bytes(json.dumps(header).encode() + b"\n" + content)
    return len(lines)


def describe(source: Map) -> dict[str, Any]:
    """Where prices come from, as the book's first line says it."""
    return {
        "file": "LiteLLM, model_prices_and_context_window.json, MIT License, Copyright (c) 2023 Berri AI",
        "version": source.version,
        "date": source.date,
        "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
        **({"providers": list(source.providers)} if source.providers else {}),
    }


if __name__ == "__main__":
    count = write_book(read_arguments(sys.argv[1:]))
    print(f"{count} models in {BOOK_PATH}")
