"""Campaigns on synthetic nulls: one rule exactly at its limit, the others never failing, each in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexa_core import stats
from nexa_core.gates import Gate, Look, Rule, Ruling, assess_gate, decide, read_gate, rows_auto
from nexa_core.records import Decision, Verdict

ROOT = Path(__file__).parents[2]
ITERATIONS = 5
AGGREGATES = {"median_tokens": "median"}

Counts = NDArray[Any]
State = tuple[int, int, frozenset[str]]
"""Rows, failures of the rule at its limit, and the rules that passed before."""


def pilot_gate() -> Gate:
    """pilot_qc as shipped, its median known as one."""
    gate = read_gate(ROOT / "gates" / "pilot_qc.yaml").as_json()
    for rule in gate["hard"]:
        rule["aggregate"] = AGGREGATES.get(rule["metric"], "rate")
    return Gate.from_json(gate)


def tally(rule: Rule, n: int, failures: int) -> dict[str, Any]:
    """What a manifest would hold of a rule that n rows were measured by."""
    if rule.aggregate == "median":
        over, under = rule.threshold, rule.threshold - 1
        return {"n": n, "histogram": {str(under): n - failures, str(over): failures}}
    return {"n": n, "k": n - failures if rule.counts_good else failures}


@dataclass
class Decider:
    """Rulings of nexa's own gate where `null` has failed k times in n rows and no other rule ever."""

    gate: Gate
    null: Rule
    known: dict[State, tuple[Ruling, frozenset[str]]] = field(default_factory=dict)

    def __call__(self, rows: int, k: int, passed: frozenset[str]) -> tuple[Ruling, frozenset[str]]:
        state = (rows, k, passed)
        if state not in self.known:
            look = Look(self.gate.alpha(ITERATIONS), rows, self.gate.max_rows, passed=passed)
            checks = assess_gate(self.gate, self.tallies(rows, k), look)
            now = frozenset(c.metric for c in checks if c.verdict is Verdict.PASS)
            self.known[state] = decide(checks, 1, ITERATIONS, rows, look.cap), now
        return self.known[state]

    def tallies(self, rows: int, k: int) -> dict[str, dict[str, Any]]:
        """Failed rows lie outside every population but that of failed_rate."""
        whole = rows - k if self.null.metric == "failed_rate" else rows
        return {
            rule.key: tally(
                rule,
                rows if rule.metric == "failed_rate" else whole,
                k if rule.metric == self.null.metric else 0,
            )
            for rule in self.gate.rules
        }


@dataclass(frozen=True)
class Played:
    """What came of many campaigns: which proceeded, and the rows and looks of each."""

    proceeded: Counts
    rows: Counts
    looks: Counts

    def as_json(self) -> dict[str, float]:
        """Rate of PROCEED with its exact 99 % upper bound, and medians."""
        return {
            **describe_rate(int(self.proceeded.sum()), len(self.proceeded)),
            "rows_median": float(np.median(self.rows)),
            "looks_median": float(np.median(self.looks)),
        }


def describe_rate(k: int, n: int) -> dict[str, float]:
    """A rate of PROCEED with its exact 99 % upper bound."""
    return {"proceed_rate": k / n, "proceed_upper": stats.clopper_pearson(k, n, 0.01)[1]}


def run_campaigns(
    decider: Decider, rate: float, campaigns: int, rng: np.random.Generator, iterations: int
) -> Played:
    """Play campaigns side by side; each look asks the gate once per distinct state."""
    start = rows_auto(decider.gate, decider.gate.alpha(ITERATIONS))
    proceeded = np.zeros(campaigns, bool)
    spent, looks = np.zeros(campaigns, int), np.zeros(campaigns, int)
    for _ in range(iterations):
        live = np.flatnonzero(~proceeded)
        groups: dict[State, Counts] = {(0, 0, frozenset()): live}
        wanted = {(0, 0, frozenset()): start}
        while groups:
            after: dict[State, list[Counts]] = {}
            for state, members in groups.items():
                more = wanted[state]
                spent[members] += more
                looks[members] += 1
                failures = state[1] + rng.binomial(more, rate, len(members))
                for k in np.unique(failures).tolist():
                    key = (state[0] + more, k, state[2])
                    after.setdefault(key, []).append(members[failures == k])
            groups, wanted = _rule(decider, after, proceeded)
    return Played(proceeded, spent, looks)


def _rule(
    decider: Decider, after: dict[State, list[Counts]], proceeded: Counts
) -> tuple[dict[State, Counts], dict[State, int]]:
    """Decide every state: mark what proceeds, keep what extends with the rows it buys."""
    groups: dict[State, Counts] = {}
    wanted: dict[State, int] = {}
    for (rows, k, passed), members in after.items():
        ruling, now = decider(rows, k, passed)
        joined = np.concatenate(members)
        if ruling.decision is Decision.PROCEED:
            proceeded[joined] = True
        elif ruling.decision is Decision.EXTEND:
            state = (rows, k, now)
            old = groups.get(state, np.empty(0, int))
            groups[state], wanted[state] = np.concatenate([old, joined]), ruling.extend_rows
    return groups, wanted


def measure_nulls(campaigns: int, seed: int) -> dict[str, dict[str, float]]:
    """False PROCEED per campaign of nexa's gate, by what is wrong."""
    gate, found = pilot_gate(), {}
    for name, rule, rate in list_nulls(gate):
        rng = np.random.default_rng([seed, len(found)])
        played = run_campaigns(Decider(gate, rule), rate, campaigns, rng, ITERATIONS)
        found[name] = played.as_json()
    return found


def list_nulls(gate: Gate) -> list[tuple[str, Rule, float]]:
    """Each certified rule at its limit in turn, and runaways at 8 %: name, rule, true rate."""
    tested = [(r.key, r, r.failure_limit) for r in gate.hard if r.failure_limit is not None]
    return [*tested, ("runaway_rate at 8 %", gate.hard[0], 0.08)]


def measure_rows(campaigns: int, seed: int) -> dict[str, dict[str, float]]:
    """Rows until "< 5 %" is certified at good rates, against the test that knows the rate."""
    found: dict[str, dict[str, float]] = {}
    gate = pilot_gate()
    rule = gate.hard[0]
    for rate in (0.005, 0.01, 0.02):
        rng = np.random.default_rng([seed, int(rate * 1e4)])
        decider = Decider(gate, rule)
        played = run_campaigns(decider, rate, campaigns, rng, 1)
        rows = np.where(played.proceeded, played.rows, gate.max_rows + 1)
        same = sprt_rows(decider, rate, campaigns, rng, at_looks=True)
        every = sprt_rows(decider, rate, campaigns, rng, at_looks=False)
        found[f"{rate:.1%}"] = {
            "proceed_rate": float(played.proceeded.mean()),
            "rows_median": float(np.median(rows)),
            "looks_median": float(np.median(played.looks)),
            "sprt_same_looks_median": float(np.median(same)),
            "sprt_every_row_median": float(np.median(every)),
            "ratio": float(np.median(rows) / np.median(same)),
            "ratio_every_row": float(np.median(rows) / np.median(every)),
        }
    return found


def sprt_rows(
    decider: Decider, rate: float, campaigns: int, rng: np.random.Generator, at_looks: bool
) -> Counts:
    """Rows until the power-one test of the true rate against the limit passes (Wald 1945).

    It knows the rate, which nexa's gate does not. At the looks at which nexa's gate would look with
    the same counts, and every ten rows once that has decided; or after every row.
    """
    gate, limit = decider.gate, decider.null.threshold
    failed = np.cumsum(rng.random((campaigns, gate.max_rows)) < rate, axis=1)
    n = np.arange(1, gate.max_rows + 1)
    evidence = failed * np.log(rate / limit) + (n - failed) * np.log((1 - rate) / (1 - limit))
    certain = evidence >= -np.log(gate.alpha(ITERATIONS))
    if at_looks:
        looked = [_looks(decider, counts) for counts in failed]
        certain &= np.array(looked)
    return np.where(certain.any(axis=1), certain.argmax(axis=1) + 1, gate.max_rows + 1)


def _looks(decider: Decider, failures: Counts) -> Counts:
    """After which rows nexa's gate would look at these failures."""
    looked = np.zeros(len(failures), bool)
    rows = rows_auto(decider.gate, decider.gate.alpha(ITERATIONS))
    passed: frozenset[str] = frozenset()
    while rows <= len(failures):
        looked[rows - 1] = True
        ruling, passed = decider(rows, int(failures[rows - 1]), passed)
        rows += ruling.extend_rows if ruling.decision is Decision.EXTEND else 10
    return looked


def tally_counts(
    gate: Gate, failures: Mapping[str, int], inside: Mapping[str, int]
) -> dict[str, Any]:
    """Tallies of every rule from its failures and the rows inside its population."""
    return {rule.key: tally(rule, inside[rule.key], failures[rule.key]) for rule in gate.rules}
