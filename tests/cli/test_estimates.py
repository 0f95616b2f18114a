"""`nexa estimate` on one screen, as JSON, and what it says of what cannot be known."""

from __future__ import annotations

import json

PRICE = "models.teacher.price={input: 0.15, output: 0.6}"


def test_estimate_on_one_screen(workspace_path, invoke, golden, monkeypatch):
    """The headline is dollars per accepted row; every number's assumption stands below."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = invoke("estimate", "distill", "--set", PRICE)
    assert done.code == 0 and done.err == ""
    golden("estimate.txt", done.out)


def test_an_unknown_price_reads_as_unknown(workspace_path, invoke):
    """The numbers say `unknown`, stderr says what to write, and the command has still worked."""
    done = invoke("estimate", "distill", "--set", "models.teacher.model=openai/unheard-of")
    assert done.code == 0
    assert "unknown per accepted row" in done.out and "it would not start" in done.out
    assert "price: {input: …, output: …}" in done.err


def test_assumptions_change_the_estimate(workspace_path, invoke):
    """Half the tokens of an answer cost less; the JSON says that somebody set them."""
    found = [
        json.loads(invoke("estimate", "distill", "--json", "--set", PRICE, *more).out)
        for more in ((), ("--assume", "answer.tokens=128", "--assume", "acceptance=0.9"))
    ]
    assert found[1]["usd"] < found[0]["usd"]
    assert found[1]["assumed"]["given"] == ["acceptance", "answer.tokens"]


def test_a_budget_too_small_says_what_it_buys(workspace_path, invoke):
    """In accepted rows, which is what the money is for."""
    done = invoke("estimate", "distill", "--set", PRICE, "--set", "budget={usd: 0.1}")
    assert "$0.10 do not suffice: they buy about 4" in done.out
