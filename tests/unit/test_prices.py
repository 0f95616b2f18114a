"""What tokens cost: exact, never guessed, never above the bound."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.errors import StoreError
from nexa_core.pipeline.roles import Role
from nexa_core.prices import (
    BOOK_PATH,
    Rates,
    is_local,
    rates_of,
    read_price_book,
    warn_of_age,
)
from nexa_core.records import Usage

ROOT = Path(__file__).parent.parent.parent
MODELS = sorted(read_price_book().lines)
BOOK = {name: read_price_book().find(name) for name in MODELS}
CACHED = [name for name, found in BOOK.items() if found and found.cache_write > found.input]
TIERED = [name for name, found in BOOK.items() if found and found.tiers]
models = st.sampled_from(MODELS) | st.sampled_from(TIERED) | st.sampled_from(CACHED)
tokens = st.sampled_from([0, 1, 1_000_000]) | st.integers(0, 2_000_000)
usages = st.builds(
    Usage,
    prompt_tokens=tokens,
    completion_tokens=tokens,
    cached_tokens=tokens,
    reasoning_tokens=tokens,
    cache_write_tokens=tokens,
)


def rates(reference: str) -> Rates:
    found = read_price_book().find(reference)
    assert found is not None
    return found


@given(models, usages, tokens, tokens, st.booleans())
def test_no_call_costs_more_than_its_bound(
    model: str, usage: Usage, more_in: int, more_out: int, batched: bool
) -> None:
    """Whatever the mix of cached, written and thought tokens, and whichever tier they reach."""
    found = rates(model).batched() if batched else rates(model)
    bound = found.bound(usage.prompt_tokens + more_in, usage.completion_tokens + more_out)
    assert 0 <= found.cost(usage) <= bound


@given(models, tokens, tokens, st.integers(0, 300_000), st.integers(0, 1000))
def test_longer_calls_never_bound_lower(
    model: str, prompt: int, completion: int, more: int, further: int
) -> None:
    """The bound is monotone in both numbers, over every threshold."""
    assert rates(model).bound(prompt, completion) <= rates(model).bound(
        prompt + more, completion + further
    )


@given(st.sampled_from(MODELS), tokens)
def test_a_million_calls_sum_up_exactly(model: str, prompt: int) -> None:
    """A cost is the exact product, rounded up to the next nano-dollar and no further."""
    found = replace(rates(model), tiers=())
    exact = prompt * found.input
    assert 0 <= found.cost(Usage(prompt_tokens=prompt)) * 10**6 - exact < 10**6


def test_known_models_cost_what_their_providers_say() -> None:
    """Two prices that everybody knows, in nano-dollars per million tokens, and their batches."""
    mini, gemini = rates("openai/gpt-4o-mini"), rates("gemini/gemini-2.5-pro")
    assert (mini.input, mini.cached_input, mini.output) == (150_000_000, 75_000_000, 600_000_000)
    assert mini.cost(Usage(1000, 500, 200)) == 120_000 + 15_000 + 300_000
    assert (mini.batched().input, mini.batched().output) == (75_000_000, 300_000_000)
    assert gemini.cost(Usage(200_001, 1)) == 200_001 * 2500 + 15_000
    assert gemini.cost(Usage(200_000, 1)) == 200_000 * 1250 + 10_000


def test_what_goes_into_a_cache_is_dearer_and_bounded() -> None:
    """Providers that take more for writing their cache are paid, and reserved, at that rate."""
    sonnet = rates("anthropic/claude-sonnet-4-5")
    assert sonnet.cost(Usage(1000, cache_write_tokens=1000)) == 1000 * 3750
    assert sonnet.bound(1000, 0) == 1000 * 3750


@pytest.mark.parametrize(
    "reference",
    ["openai/gpt-4o-min", "openai/GPT-4o-mini", "gpt-4o-mini", "azure/gpt-4o", "vllm/gpt-4o-mini"],
)
def test_a_near_miss_is_not_found(reference: str) -> None:
    """Nothing is guessed: another spelling, provider or deployment has no price."""
    assert read_price_book().find(reference) is None


def test_no_entry_of_the_book_is_free() -> None:
    """A price of 0 in a public list means that nobody knew."""
    for model in MODELS:
        found = rates(model)
        assert min(found.input, found.output, found.cached_input) > 0
        assert found.batched().output <= found.output


def test_a_roles_own_price_comes_first() -> None:
    """Also where the book knows the model, and where the endpoint is the user's own."""
    price = {"input": 1.5, "output": 2, "cached_input": 0.1}
    for base_url in (None, "http://localhost:8000/v1"):
        found = rates_of(Role(model="openai/gpt-4o-mini", price=price, base_url=base_url))
        assert found == Rates(
            1_500_000_000, 2_000_000_000, 100_000_000, 1_500_000_000, 2_000_000_000
        )


@pytest.mark.parametrize(
    ("role", "known"),
    [
        ({}, True),
        ({"base_url": "https://api.openai.com/v1"}, True),
        ({"base_url": "http://api.openai.com/v1"}, False),
        ({"base_url": "https://api.openai.com.example/v1"}, False),
        ({"base_url": "https://eu.api.openai.com/v1"}, False),
        ({"base_url": "http://localhost:8000/v1"}, False),
        ({"extra_body": {"service_tier": "priority"}}, False),
    ],
)
def test_the_book_holds_at_the_providers_own_host_only(role: dict, known: bool) -> None:
    """Another host or service tier may charge otherwise: unknown, not the same and not 0."""
    assert (rates_of(Role(model="openai/gpt-4o-mini", **role)) is not None) is known


def test_a_batch_role_reserves_its_single_calls_in_full() -> None:
    """Only what goes into a batch is cheaper: a call that is sent by itself is bounded by itself."""
    found = rates_of(Role(model="openai/gpt-4o-mini", batch=True))
    assert found == rates("openai/gpt-4o-mini")
    assert found is not None and found.batched().bound(1000, 10) == found.bound(1000, 10) // 2


def test_local_models_cost_time_not_tokens() -> None:
    """They have no rates, and say why."""
    role = Role(model="hf/meta-llama/Llama-3.1-8B")
    assert rates_of(role) is None and is_local(role)
    assert not is_local(Role(model="openai/gpt-unheard-of"))


def test_old_prices_are_warned_of_by_role() -> None:
    """30 days are fine, 31 are not; a role with its own price is not meant."""
    book = read_price_book()
    known = date.fromisoformat(rates("openai/gpt-4o-mini").date or "")
    roles = {
        "teacher": Role(model="openai/gpt-4o-mini"),
        "judge": Role(model="openai/gpt-4o", price={"input": 1, "output": 1}),
    }
    assert warn_of_age(roles, date.fromordinal(known.toordinal() + 30)) == []
    [warning] = warn_of_age(roles, date.fromordinal(known.toordinal() + 31))
    assert "'teacher' (31 days)" in warning and "judge" not in warning
    assert book.age_days(today=date.fromisoformat(book.date)) == 0


def test_an_edited_book_is_refused(tmp_path: Path) -> None:
    """A price changed by hand would be money nobody reserved: the hash finds it."""
    edited = tmp_path / "prices.jsonl"
    edited.write_text(BOOK_PATH.read_text().replace('"input": 0.15', '"input": 0.14', 1))
    with pytest.raises(StoreError, match="hash"):
        read_price_book(edited)


def test_the_book_is_derived_from_a_map(tmp_path: Path) -> None:
    """Only models paid by the token alone; an older map serves the providers named with it."""
    spec = importlib.util.spec_from_file_location("derive", ROOT / "scripts" / "derive_prices.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def entry(provider: str, **more: object) -> dict:
        costs = {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
        return {"mode": "chat", "litellm_provider": provider, **costs, **more}

    new = {
        "big": entry("openai", input_cost_per_token_above_200k_tokens=3.0000000000000001e-06),
        "free": entry("openai", input_cost_per_token=0.0),
        "sound": entry("openai", output_cost_per_audio_token=1e-5),
        "drawing": entry("openai", mode="image_generation"),
        "azure/mine": entry("azure"),
    }
    old = {"openrouter/x/y": entry("openrouter"), "big-old": entry("openai")}
    (tmp_path / "new.json").write_text(json.dumps(new))
    (tmp_path / "old.json").write_text(json.dumps(old))
    maps = script.read_arguments(
        [f"{tmp_path}/new.json=2.0@2026-11-01", f"{tmp_path}/old.json=1.0@2026-10-01:openrouter"]
    )
    assert script.write_book(maps, tmp_path / "book.jsonl") == 2
    book = read_price_book(tmp_path / "book.jsonl")
    big, routed = book.find("openai/big"), book.find("openrouter/x/y")
    assert big is not None and routed is not None
    assert big.cost(Usage(200_001)) == 200_001 * 3000
    assert (big.date, routed.date) == ("2026-11-01", "2026-10-01")
