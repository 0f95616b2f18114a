"""The gate's promises, by the benchmark that measures them: GateBench, small and whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nexa_core import reviews
from nexa_core.gates import Look, assess_gate, conclude, decide
from nexa_core.records import Evidence
from nexa_core.reviews import Review

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    """The benchmarks import each other from their own folder."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def nulls(on_path: None) -> ModuleType:
    from gating import nulls

    return nulls


@pytest.fixture(scope="module")
def searching(on_path: None) -> ModuleType:
    from gating import searching

    return searching


def test_a_rule_at_its_threshold_rarely_proceeds(nulls):
    """500 campaigns with runaways at exactly 5 %: at most 5 % proceed, some do."""
    gate = nulls.pilot_gate()
    decider = nulls.Decider(gate, gate.hard[0])
    played = nulls.run_campaigns(decider, 0.05, 500, np.random.default_rng(1), nulls.ITERATIONS)
    assert 0 < played.proceeded.mean() <= 0.05
    assert played.rows.min() >= 113


def test_a_good_pilot_proceeds_in_the_rows_the_design_promises(nulls):
    """500 pilots at a true 1 %: nearly all proceed, the median after 166 rows."""
    gate = nulls.pilot_gate()
    decider = nulls.Decider(gate, gate.hard[0])
    played = nulls.run_campaigns(decider, 0.01, 500, np.random.default_rng(2), 1)
    assert played.proceeded.mean() > 0.9
    assert np.median(played.rows) == 166


def test_the_surface_gives_its_own_points_back_and_lies_between_them(searching):
    """At a grid point the measured shares; half-way between two, their mean."""
    surface = searching.Surface.read()
    points = surface.points()
    measured = surface.counts / surface.counts.sum(axis=1, keepdims=True)
    assert surface.shares(points[17]) == pytest.approx(measured[17])
    first, second = points[0], points[1]
    middle = {path: (first[path] + second[path]) / 2 for path in first}
    assert surface.shares(middle) == pytest.approx((measured[0] + measured[1]) / 2)
    assert {tuple(p) for p in surface.counts[:, None].sum(axis=2)} == {(320,)}


@pytest.mark.slow
def test_the_point_gate_passes_a_bad_pilot_as_often_as_is_known(on_path):
    """A true 8 % runaway passes "< 5 % of 43 rows" within three pilots in about 69 % of campaigns."""
    from gating.others import measure_others

    found = measure_others(2000, 0)["point threshold, n = 43"]["runaway_rate at 8 %"]
    assert found["within_3"] == pytest.approx(0.69, abs=0.03)


def test_campaigns_of_the_benchmark_are_those_of_a_run(searching, nulls, monkeypatch):
    """Sampled iterations, written as records with the counts drawn: every decision replays, patch included."""
    surface, gate = searching.Surface.read(), nulls.pilot_gate()
    seen: list[tuple[Any, Any, Evidence]] = []

    def watch(evidence: Evidence, rng: np.random.Generator) -> Any:
        after = searching.follow_policy(evidence, rng)
        seen.append((dict(drawn[-1].tallies), drawn[-1].n, evidence))
        return after

    drawn: list[Any] = []
    monkeypatch.setitem(searching.REVIEWING, "policy", watch)
    original = searching._play_nexa

    class Drawn:
        def __init__(self, rows: Any) -> None:
            self.n = rows.n
            self.tallies = {r.key: nulls.tally(r, rows.n, rows.failures[r.key]) for r in gate.hard}

    def play(rows: Any, number: int, rng: np.random.Generator) -> Any:
        end = original(rows, number, rng)
        drawn.append(Drawn(rows))
        return end

    monkeypatch.setattr(searching, "_play_nexa", play)
    rng = np.random.default_rng(3)
    for start in searching.draw_starts(surface, gate, 6, 5):
        searching.play_campaign(searching.NEXA, "policy", surface, gate, start, rng)
    for tallies, rows, evidence in seen[:12]:
        look = Look(gate.alpha(5), rows, gate.max_rows)
        checks = assess_gate(gate, tallies, look)
        assert [c.as_json() for c in checks] == [c.as_json() for c in evidence.checks]
        assert not reviews.replay(_record(gate, look, tallies, evidence), [_policy])


def _policy(evidence: Evidence, _ask: object = None) -> Any:
    from nexa_reviewers.policy import Policy

    return Policy().propose(evidence)


def _record(gate: Any, look: Look, tallies: Any, evidence: Evidence) -> Review:
    """The record that a run would write of this iteration."""
    ruling = decide(evidence.checks, evidence.iteration, 5, look.rows, look.cap)
    opinion = _policy(evidence)
    end = conclude(ruling, [opinion], evidence)
    return Review(
        run="sampled",
        iteration=evidence.iteration,
        max_iterations=5,
        gate=gate.as_json(),
        gate_hash=gate.hash,
        look=look,
        tallies=tallies,
        checks=[check.as_json() for check in evidence.checks],
        ruling=ruling.decision,
        decision=end.decision,
        reason=end.reason,
        extend_rows=end.extend_rows,
        changes=end.changes,
        patch_reason=end.patch_reason,
        waiting=end.waiting,
        refused=end.refused,
        opinions=[opinion.as_json()],
        parameters=evidence.parameters,
        search_space=evidence.search_space,
        history=evidence.history,
        columns=evidence.columns,
    )


@pytest.mark.slow
def test_ten_thousand_campaigns_hold_the_error_in_every_null(on_path, capsys):
    """False PROCEED ≤ 5 % for each rule in turn; rows at most 1.25 times those of the SPRT."""
    import gate

    assert gate.main(["--only", "nulls", "rows", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(row["proceed_upper"] <= 0.05 for row in found["nulls"].values())
    assert found["rows"]["1.0%"]["ratio"] <= 1.25


@pytest.mark.slow
def test_figures_do_not_depend_on_the_number_of_workers(on_path):
    """One worker or three: the same figures to the last digit; another seed gives others."""
    import gate

    def play(workers: int, seed: int = 0) -> dict[str, Any]:
        found = gate.measure(12, seed, ("nulls", "search", "drift"), workers)
        return {name: value for name, value in found.items() if name not in ("seconds", "seed")}

    alone = play(1)
    assert alone["search"] and play(3) == alone
    assert play(2, seed=1) != alone
