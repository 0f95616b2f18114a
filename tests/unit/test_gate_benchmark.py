"""The gate's promise, by the benchmark that measures it: a bad pilot proceeds in at most 5 %."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "gate.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_rule_at_its_threshold_rarely_proceeds(benchmark):
    """500 campaigns with runaways at exactly 5 %: at most 5 % proceed, some do."""
    gate = benchmark.pilot_gate()
    decider = benchmark.Decider(gate, gate.hard[0])
    rng = benchmark.np.random.default_rng(1)
    played = benchmark.run_campaigns(decider, 0.05, 500, rng, benchmark.ITERATIONS)
    assert 0 < played.proceeded.mean() <= 0.05
    assert played.rows.min() >= 113


def test_a_good_pilot_proceeds_in_the_rows_the_design_promises(benchmark):
    """500 pilots at a true 1 %: nearly all proceed, the median after 166 rows."""
    gate = benchmark.pilot_gate()
    decider = benchmark.Decider(gate, gate.hard[0])
    played = benchmark.run_campaigns(decider, 0.01, 500, benchmark.np.random.default_rng(2), 1)
    assert played.proceeded.mean() > 0.9
    assert benchmark.np.median(played.rows) == 166


@pytest.mark.slow
def test_ten_thousand_campaigns_hold_the_error_in_every_null(benchmark, capsys):
    """False PROCEED ≤ 5 % for each rule in turn; rows at most 1.25 times those of the SPRT."""
    assert benchmark.main(["--campaigns", "10000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(row["proceed_upper"] <= 0.05 for row in found["nulls"].values())
    assert found["rows"]["1.0%"]["ratio"] <= 1.25
    assert found["contrasts"]["point threshold, n = 43"]["at 8%"] > 0.8
