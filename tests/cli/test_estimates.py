"""`nexa estimate` on one screen, as JSON, and what it says of what cannot be known."""

from __future__ import annotations

import json

PRICES = {"teacher": (0.15, 0.6), "judge": (2.5, 10.0), "reviewer": (3.0, 15.0)}
PRICE = [
    part
    for role, (read, written) in PRICES.items()
    for part in ("--set", f"models.{role}.price={{input: {read}, output: {written}}}")
]


def test_estimate_on_one_screen(workspace_path, invoke, golden, monkeypatch):
    """The headline is dollars per accepted row; every number's assumption stands below."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = invoke("estimate", "distill", *PRICE)
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
        json.loads(invoke("estimate", "distill", "--json", *PRICE, *more).out)
        for more in ((), ("--assume", "answer.tokens=128", "--assume", "acceptance=0.9"))
    ]
    assert found[1]["usd"] < found[0]["usd"]
    assert found[1]["assumed"]["given"] == ["acceptance", "answer.tokens"]


def test_a_budget_too_small_says_what_it_buys(workspace_path, invoke):
    """In accepted rows, which is what the money is for."""
    done = invoke("estimate", "distill", *PRICE, "--set", "budget={usd: 5}")
    assert "$5.00 do not suffice: they buy about 4" in done.out


def test_a_judged_evaluation_is_a_phase_of_its_own(workspace_path, invoke):
    """Eighty items in two arms are 160 verdicts, and their price is in the sum."""
    found = json.loads(invoke("estimate", "distill", "--json", *PRICE).out)
    phases = {phase["phase"]: phase for phase in found["phases"]}
    assert (phases["evaluate"]["rows"], phases["evaluate"]["calls"]) == (80, 160)
    assert phases["evaluate"]["usd"] > 0
    assert abs(sum(phase["usd"] for phase in found["phases"]) - found["usd"]) < 1e-9
