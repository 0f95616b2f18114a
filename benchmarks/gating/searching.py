"""Campaigns on the response surface: a gate and a reviewer, from settings that really fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gating.nulls import ITERATIONS, Counts, pilot_gate, tally
from gating.others import OTHERS, OtherGate, find_limits
from gating.surface import FAILING, OUTSIDE, Surface
from nexa_core.gates import Gate, Look, Rule, assess, decide, rows_auto
from nexa_core.records import Decision, Evidence, GateCheck, Verdict
from nexa_reviewers.policy import Policy

NEXA = "nexa's gate"
GATES = (NEXA, *OTHERS)
REVIEWERS = ("policy", "random search", "none")
SPACE = {
    "respond.sampling.temperature": {"min": 0.05, "max": 1.0},
    "respond.sampling.top_p": {"min": 0.5, "max": 1.0},
    "respond.sampling.repetition_penalty": {"min": 1.0, "max": 1.5},
}
STARTS = ("the demo's start", "anywhere that fails")
COLUMNS = {"propose": "instruction", "respond": "response"}
DEMO = dict(zip(SPACE, (1.0, 1.0, 1.05), strict=True))
Values = dict[str, float]


@dataclass(frozen=True)
class Trial:
    """One campaign's end: whether it proceeded, whether it should have, and what it took."""

    proceeded: bool
    right: bool
    rows: int
    iterations: int


class Reviewing(Protocol):
    """Gives the next iteration's parameters."""

    def __call__(self, evidence: Evidence, rng: np.random.Generator) -> Values: ...


def follow_policy(evidence: Evidence, _rng: np.random.Generator) -> Values:
    """What the shipped reviewer proposes; the same parameters where it proposes nothing."""
    return {**evidence.parameters, **Policy().propose(evidence).changes}


def search_at_random(_evidence: Evidence, rng: np.random.Generator) -> Values:
    """Any parameters inside the space."""
    return {p: round(float(rng.uniform(s["min"], s["max"])), 2) for p, s in SPACE.items()}


def change_nothing(evidence: Evidence, _rng: np.random.Generator) -> Values:
    """The same again, with fresh rows."""
    return dict(evidence.parameters)


REVIEWING: Mapping[str, Reviewing] = dict(
    zip(REVIEWERS, (follow_policy, search_at_random, change_nothing), strict=True)
)


@dataclass
class Rows:
    """The rows of one iteration so far, as failures per rule; a local model's calls never fail.

    Every row of the surface lies inside every rule's population, so that n is one number.
    """

    gate: Gate
    surface: Surface
    values: Values
    n: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def draw(self, sizes: Sequence[int], rng: np.random.Generator) -> Counts:
        """Failures after each of several lots of fresh rows, a column per hard rule."""
        shares = find_shares(self.surface, tuple(self.values.values()))
        drawn = rng.multinomial(sizes, shares).cumsum(axis=0)
        return np.asarray(drawn @ _marks(self.gate, self.surface))

    def take(self, count: int, rng: np.random.Generator) -> None:
        """Add rows."""
        self.n += count
        for rule, more in zip(self.gate.hard, self.draw([count], rng)[0].tolist(), strict=True):
            self.failures[rule.key] = self.failures.get(rule.key, 0) + more


_SHARES: dict[tuple[float, ...], Counts] = {}


def find_shares(surface: Surface, values: tuple[float, ...]) -> Counts:
    """`Surface.shares`, remembered, and exactly summing to one."""
    if values not in _SHARES:
        shares = surface.shares(dict(zip(surface.axes, values, strict=True)))
        _SHARES[values] = shares / shares.sum()
    return _SHARES[values]


_MARKS: dict[tuple[str, ...], Counts] = {}


def _marks(gate: Gate, surface: Surface) -> Counts:
    """Which patterns fail which hard rule of the gate: patterns × rules."""
    keys = tuple(rule.key for rule in gate.hard)
    if keys not in _MARKS:
        assert not any(OUTSIDE in pattern for pattern in surface.patterns)
        marks = np.zeros((len(surface.patterns), len(keys)), int)
        for column, key in enumerate(keys):
            if key in surface.rules:
                at = surface.rules.index(key)
                marks[:, column] = [pattern[at] == FAILING for pattern in surface.patterns]
        _MARKS[keys] = marks
    return _MARKS[keys]


def is_good(gate: Gate, surface: Surface, values: Mapping[str, float]) -> bool:
    """Whether the true rates at these parameters keep every hard rule."""
    rates = surface.rates(values)
    return all(
        rates[rule.key] < (rule.failure_limit or 1e-9) for rule in gate.hard if rule.key in rates
    )


_CHECKS: dict[tuple[Any, ...], GateCheck] = {}


def check_rule(rule: Rule, n: int, failures: int, look: Look) -> GateCheck:
    """`assess`, the product's own, remembered by counts."""
    key = (rule.metric, n, failures, look.rows, look.census, rule.key in look.passed)
    if key not in _CHECKS:
        _CHECKS[key] = assess(rule, tally(rule, n, failures), look)
    return _CHECKS[key]


def play_iteration(
    name: str, rows: Rows, number: int, rng: np.random.Generator
) -> tuple[Decision, tuple[GateCheck, ...]]:
    """Draw rows and look until the gate has decided on this iteration."""
    if name == NEXA:
        return _play_nexa(rows, number, rng)
    return _play_other(OTHERS[name], rows, rng)


def _play_nexa(
    rows: Rows, number: int, rng: np.random.Generator
) -> tuple[Decision, tuple[GateCheck, ...]]:
    gate = rows.gate
    alpha, passed = gate.alpha(ITERATIONS), frozenset[str]()
    more = rows_auto(gate, alpha)
    while True:
        rows.take(more, rng)
        look = Look(alpha, rows.n, gate.max_rows, passed=passed)
        checks = tuple(check_rule(r, rows.n, rows.failures[r.key], look) for r in gate.hard)
        passed = frozenset(c.metric for c in checks if c.verdict is Verdict.PASS)
        ruling = decide(checks, number, ITERATIONS, rows.n, gate.max_rows)
        more = ruling.extend_rows
        if ruling.decision is not Decision.EXTEND:
            return ruling.decision, checks


def _play_other(
    other: OtherGate, rows: Rows, rng: np.random.Generator
) -> tuple[Decision, tuple[GateCheck, ...]]:
    """All looks at once; the reviewer is shown the values at the look that decided."""
    gate, looks = rows.gate, np.array(other.looks)
    failures = rows.draw(np.diff(looks, prepend=0), rng)
    passing, failing = find_limits(other, gate)
    passed, failed = (failures <= passing).all(axis=1), (failures >= failing).any(axis=1)
    ends = np.flatnonzero(passed | failed)
    at = int(ends[0]) if len(ends) else len(looks) - 1
    rows.n = int(looks[at])
    rows.failures = dict(zip((r.key for r in gate.hard), failures[at].tolist(), strict=True))
    look = Look(gate.alpha(ITERATIONS), rows.n, rows.n, census=True)
    checks = tuple(check_rule(r, rows.n, rows.failures[r.key], look) for r in gate.hard)
    return (Decision.PROCEED if passed[at] else Decision.ITERATE), checks


def play_campaign(
    name: str, reviewer: str, surface: Surface, gate: Gate, start: Values, rng: np.random.Generator
) -> Trial:
    """Iterate as a run does: until PROCEED or five iterations."""
    values, spent, history = dict(start), 0, []
    for number in range(1, ITERATIONS + 1):
        rows = Rows(gate, surface, values)
        decision, checks = play_iteration(name, rows, number, rng)
        spent += rows.n
        if decision is Decision.PROCEED:
            return Trial(True, is_good(gate, surface, values), spent, number)
        evidence = Evidence(
            number, ITERATIONS, checks, values, SPACE, history=tuple(history), columns=COLUMNS
        )
        after = REVIEWING[reviewer](evidence, rng)
        changes = {p: [values[p], new] for p, new in after.items() if new != values[p]}
        history.append(
            {
                "iteration": number,
                "decision": str(decision),
                "parameters": dict(values),
                "checks": [_as_json(check) for check in checks],
                "changes": changes,
            }
        )
        values = after
    return Trial(False, False, spent, ITERATIONS)


_AS_JSON: dict[int, tuple[GateCheck, dict[str, Any]]] = {}


def _as_json(check: GateCheck) -> dict[str, Any]:
    """`GateCheck.as_json`, remembered for the checks that are."""
    if id(check) not in _AS_JSON:
        _AS_JSON[id(check)] = check, check.as_json()
    return _AS_JSON[id(check)][1]


def draw_starts(surface: Surface, gate: Gate, count: int, seed: int) -> list[Values]:
    """Settings drawn from the whole space of which every one really fails."""
    rng, found = np.random.default_rng([seed, 7]), []
    while len(found) < count:
        values = {p: round(float(rng.uniform(s["min"], s["max"])), 2) for p, s in SPACE.items()}
        if not is_good(gate, surface, values):
            found.append(values)
    return found


def measure_search(campaigns: int, seed: int, start: str) -> dict[str, dict[str, dict[str, float]]]:
    """By gate and reviewer: wrong and right PROCEED, rows and iterations to a right one."""
    surface, gate = Surface.read(), pilot_gate()
    every = (
        [DEMO] * campaigns if start == STARTS[0] else draw_starts(surface, gate, campaigns, seed)
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for j, name in enumerate(GATES):
        for k, reviewer in enumerate(REVIEWERS):
            rng = np.random.default_rng([seed, 11, STARTS.index(start), j, k])
            trials = [play_campaign(name, reviewer, surface, gate, at, rng) for at in every]
            found.setdefault(name, {})[reviewer] = summarise(trials)
    return found


def summarise(trials: Sequence[Trial]) -> dict[str, float]:
    """Shares of campaigns, and what a right PROCEED took.

    `rows_per_right` is all rows spent over the right PROCEEDs: what one costs who starts a new
    campaign after each that ends without.
    """
    right = [trial for trial in trials if trial.right]
    wrong = sum(trial.proceeded and not trial.right for trial in trials)
    rows = sum(trial.rows for trial in trials)
    return {
        "wrong": wrong / len(trials),
        "right": len(right) / len(trials),
        "rows_median": float(np.median([t.rows for t in right])) if right else float("inf"),
        "iterations_mean": float(np.mean([t.iterations for t in right])) if right else float("inf"),
        "rows_per_right": rows / len(right) if right else float("inf"),
    }
