"""Gates decide as the design says: three-valued rules, one lattice, no way round a hard FAIL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core import gates, stats
from nexa_core.errors import GateFileError, PreflightError, UnknownNameError
from nexa_core.gates import Gate, Look, Rule, refuse_changes
from nexa_core.records import Decision, GateCheck, Verdict
from nexa_core.specs import MetricSpec

SHIPPED = Path(__file__).parents[2] / "gates"
ALPHA = 0.01


def spec(name: str, aggregate: str = "rate") -> MetricSpec:
    return MetricSpec(name, name, build=lambda: None, aggregate=aggregate, population="every row")


METRICS = {
    name: spec(name)
    for name in (
        "runaway_rate",
        "token_limit_rate",
        "delimiter_leakage",
        "acceptance_rate",
        "failed_rate",
    )
} | {"median_tokens": spec("median_tokens", "median"), "mean_score": spec("mean_score", "mean")}


def pilot_qc() -> Gate:
    return gates.bind_gate(gates.read_gate(SHIPPED / "pilot_qc.yaml"), METRICS)


def look(rows: int = 150, **kwargs) -> Look:
    return Look(**{"alpha": ALPHA, "rows": rows, "cap": 600} | kwargs)


def rate(k: int, n: int) -> dict[str, int]:
    return {"k": k, "n": n}


def tallies(n: int = 113, **changes: int) -> dict[str, dict]:
    """What an iteration of n good rows leaves, with other counts where named."""
    counts = {name: rate(0, n) for name in METRICS} | {"acceptance_rate": rate(n, n)}
    counts |= {name: rate(k, n) for name, k in changes.items()}
    return counts | {"median_tokens": {"n": n, "histogram": {"25": n}}}


def ruling(
    n: int = 113, iteration: int = 1, cap: int = 600, passed=frozenset(), **changes: int
) -> gates.Ruling:
    checks = gates.assess_gate(pilot_qc(), tallies(n, **changes), look(n, cap=cap, passed=passed))
    return gates.decide(checks, iteration, 5, n, cap)


# --- reading -----------------------------------------------------------------------------------


def test_the_shipped_pilot_gate_reads_as_the_design_writes_it():
    """Five rules and failed_rate, confidence 0.95, 600 rows, the policy reviewer."""
    gate = pilot_qc()
    assert [(r.metric, r.op, r.threshold) for r in gate.hard] == [
        ("runaway_rate", "below", 0.05),
        ("token_limit_rate", "below", 0.10),
        ("delimiter_leakage", "equals", 0),
        ("median_tokens", "below", 40),
        ("acceptance_rate", "at_least", 0.5),
        ("failed_rate", "below", 0.05),
    ]
    assert (gate.confidence, gate.max_rows, gate.reviewers[0].name) == (0.95, 600, "policy")


@pytest.mark.parametrize("name", ["pilot_qc", "distill_qc", "audit_qc", "training_health"])
def test_every_shipped_gate_reads_and_survives_json(name):
    """A gate is what its JSON says, so that a record can rebuild it."""
    gate = gates.read_gate(SHIPPED / f"{name}.yaml")
    assert gate.name == name
    again = Gate.from_json(gate.as_json())
    assert again == gate
    assert again.hash == gate.hash


MISTAKES = {
    "hard: []\n": ("no name", 1),
    "gate: g\nhrad: []\n": ("Did you mean 'hard'?", 2),
    "gate: g\nconfidence: 1\n": ("cannot be had", 2),
    "gate: g\nhard:\n  - {metric: a, belwo: 0.1}\n": ("Did you mean 'below'?", 3),
    "gate: g\nhard:\n  - {metric: a}\n": ("exactly one of", 3),
    "gate: g\nhard:\n  - {metric: a, below: 0.1, equals: 0}\n": ("below and equals", 3),
    "gate: g\nhard:\n  - {metric: a, below: x}\n": ("'x' is no number", 3),
    "gate: g\nhard:\n  - {below: 0.1}\n": ("names no metric", 3),
    "gate: g\nhard:\n  - {metric: a, below: 0.1}\n  - {metric: a, below: 0.2}\n": ("two rules", 4),
    "gate: g\nhard: [{metric: a, below: 0.1}]\nsoft: [{metric: a, below: 0.2}]\n": (
        "hard and soft",
        3,
    ),
    "gate: g\nsoft:\n  - {metric: failed_rate, below: 0.1}\n": ("always hard", 3),
    "gate: g\nextend: {max_rows: many}\n": ("no number of rows", 2),
    "gate: g\nreviewers: policy\n": ("is a list", 2),
    "- gate\n": ("is a mapping", 1),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_gate_file_is_told_with_its_line(tmp_path, text):
    """Unknown keys, missing operators and wrong values name file, line and what would work."""
    path = tmp_path / "g.yaml"
    path.write_text(text)
    words, line = MISTAKES[text]
    with pytest.raises(GateFileError) as error:
        gates.read_gate(path)
    assert words in str(error.value)
    assert str(error.value).endswith(f"g.yaml:{line}")


def test_a_pipeline_extends_a_gate_and_keeps_what_it_does_not_name():
    """`{extends: …}` replaces the rules it names, adds new ones, and takes its own reviewers."""
    data = {
        "extends": "pilot_qc",
        "reviewers": ["policy", {"llm": {"model": "m"}}],
        "hard": [{"metric": "runaway_rate", "below": "2%"}],
    }
    gate = gates.gate_from(data, lambda name, _: SHIPPED / f"{name}.yaml")
    assert {r.metric: r.threshold for r in gate.hard}["runaway_rate"] == 0.02
    assert len(gate.hard) == 6
    assert gate.name == "pilot_qc"
    assert gate.reviewers[1].options == {"model": "m"}
    assert gate.hash != pilot_qc().hash


def test_a_gate_that_extends_itself_is_refused(tmp_path):
    """A circle of `extends` is an error and no endless loop."""
    (tmp_path / "a.yaml").write_text("gate: a\nextends: b\n")
    (tmp_path / "b.yaml").write_text("gate: b\nextends: a\n")
    with pytest.raises(GateFileError, match="extends itself"):
        gates.read_gate(tmp_path / "a.yaml", lambda name, _: tmp_path / f"{name}.yaml")


def test_fail_over_moves_the_failed_rate_only_where_the_gate_is_silent(tmp_path):
    """The pipeline's fail_over is the limit of failed_rate unless the gate names one."""
    assert pilot_qc().with_fail_over(0.2).hard[-1] == Rule("failed_rate", "below", 0.2)
    assert pilot_qc().with_fail_over(0).hard[-1].op == "equals"
    assert "failed_rate" not in [r.metric for r in pilot_qc().with_fail_over(1).hard]
    (tmp_path / "g.yaml").write_text("gate: g\nhard: [{metric: failed_rate, below: 0.1}]\n")
    own = gates.read_gate(tmp_path / "g.yaml")
    assert own.with_fail_over(0.2) is own


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("runaway_rate", "below", 0.0), "equals: 0"),
        (Rule("acceptance_rate", "at_least", 1.0), "equals: 1"),
        (Rule("runaway_rate", "equals", 0.5), "exactly 0 or exactly 1"),
        (Rule("mean_score", "at_least", 0.5), "only reported"),
    ],
)
def test_a_threshold_that_nothing_can_prove_is_refused(rule, words):
    """A rate below 0, a rate of at least 1 and a hard mean are told with what would work."""
    with pytest.raises(GateFileError, match=words):
        gates.bind_gate(Gate("g", (rule,)), METRICS)


def test_a_metric_that_nothing_provides_is_told_with_the_nearest_name():
    """Metrics are plugins, so their names are checked when the gate is bound."""
    with pytest.raises(UnknownNameError, match="Did you mean 'runaway_rate'"):
        gates.bind_gate(Gate("g", (Rule("runaway_rat", "below", 0.1),)), METRICS)


# --- assessing ---------------------------------------------------------------------------------


def assess(rule: Rule, tally: dict, **kwargs) -> GateCheck:
    bound = gates.bind_gate(Gate("g", (rule,)), METRICS).hard[0]
    return gates.assess(bound, tally, look(tally["n"], **kwargs))


@pytest.mark.parametrize(
    ("k", "n", "verdict"),
    [
        (0, 112, "INCONCLUSIVE"),
        (0, 113, "PASS"),
        (1, 165, "INCONCLUSIVE"),
        (1, 166, "PASS"),
        (19, 150, "FAIL"),
    ],
)
def test_a_rate_is_three_valued(k, n, verdict):
    """ "< 5 %" passes at 113 rows without a failure or 166 with one, and fails at 19 of 150."""
    check = assess(Rule("runaway_rate", "below", 0.05), rate(k, n))
    assert check.verdict == verdict
    assert check.certified
    assert (check.e_pass >= 100, check.e_fail >= 100) == (verdict == "PASS", verdict == "FAIL")


@given(st.integers(1, 250), st.data())
def test_at_least_is_below_seen_from_the_other_side(n, data):
    """Acceptance of at least 0.7 and rejection below 0.3 always agree."""
    k = data.draw(st.integers(0, n))
    accepted = assess(Rule("acceptance_rate", "at_least", 0.7), rate(k, n))
    rejected = assess(Rule("runaway_rate", "below", 1 - 0.7), rate(n - k, n))
    assert (accepted.verdict, accepted.e_pass, accepted.rows_needed) == (
        rejected.verdict,
        rejected.e_pass,
        rejected.rows_needed,
    )
    assert accepted.lower == pytest.approx(1 - rejected.upper)


@given(st.integers(1, 300), st.data())
def test_a_rule_passes_exactly_when_its_bound_clears_the_threshold(n, data):
    """Verdict and interval are one process: PASS means that the upper bound is under the limit."""
    check = assess(
        Rule("runaway_rate", "below", 0.05), rate(data.draw(st.integers(0, min(n, 30))), n)
    )
    assert (check.verdict == "PASS") == (check.upper <= 0.05 + 1e-9)
    assert (check.verdict == "FAIL") == (check.lower >= 0.05 - 1e-9)


def test_a_median_is_tested_as_the_share_of_rows_under_the_threshold():
    """9 of 9 rows under 40 prove it; the value shown is the median itself."""
    rule = Rule("median_tokens", "below", 40)
    good = assess(rule, {"n": 9, "histogram": {"20": 5, "39": 4}})
    assert (good.verdict, good.value, good.k) == ("PASS", 20, 9)
    assert assess(rule, {"n": 60, "histogram": {"20": 5, "40": 55}}).verdict == "FAIL"
    even = assess(rule, {"n": 4, "histogram": {"20": 2, "60": 2}})
    assert (even.verdict, even.value) == ("INCONCLUSIVE", 40)


def test_equals_zero_is_decided_on_the_count_and_says_so():
    """One leak fails, none passes, and neither is called certified."""
    rule = Rule("delimiter_leakage", "equals", 0)
    found = [assess(rule, rate(k, 20)) for k in (0, 1)]
    assert [c.verdict for c in found] == ["PASS", "FAIL"]
    assert all((c.certified, c.basis) == (False, "count") for c in found)


def test_a_census_decides_on_the_values_themselves():
    """With every row measured 2 of 43 is below 5 %, certified by nothing and labelled a census."""
    check = assess(Rule("runaway_rate", "below", 0.05), rate(2, 43), census=True)
    assert (check.verdict, check.basis, check.certified) == ("PASS", "census", False)
    assert assess(Rule("runaway_rate", "below", 0.05), rate(3, 43), census=True).verdict == "FAIL"


@pytest.mark.parametrize("census", [False, True])
def test_no_row_proves_nothing(census):
    """An empty population is undecided, even for a census and for `equals: 0`."""
    for rule in (Rule("runaway_rate", "below", 0.05), Rule("delimiter_leakage", "equals", 0)):
        assert assess(rule, rate(0, 0), census=census).verdict == "INCONCLUSIVE"


def test_a_pass_stays_a_pass_within_its_iteration():
    """What passed at an earlier look stays passed when later rows weaken the evidence."""
    rule = Rule("runaway_rate", "below", 0.05)
    assert assess(rule, rate(4, 166)).verdict == "INCONCLUSIVE"
    assert assess(rule, rate(4, 166), passed=frozenset({"runaway_rate"})).verdict == "PASS"


def test_rows_outside_the_population_make_the_next_look_larger():
    """Where half of the rows count, twice the rows are asked for."""
    rule = pilot_qc().hard[0]
    whole = gates.assess(rule, rate(1, 113), look(113))
    half = gates.assess(rule, rate(1, 113), look(226))
    assert whole.rows_needed == 53
    assert half.rows_needed == pytest.approx(106, abs=2)


# --- deciding ----------------------------------------------------------------------------------


def test_all_passed_proceeds_and_names_what_is_uncertified():
    """PROCEED says which rules rest on the observed rows alone."""
    decision, reason, _ = ruling()
    assert decision is Decision.PROCEED
    assert "uncertified: delimiter_leakage" in reason


def test_a_hard_fail_iterates_whatever_else_passes():
    """A FAIL iterates and its sentence holds the count and the bound."""
    decision, reason, rows = ruling(150, runaway_rate=19)
    assert (decision, rows) == (Decision.ITERATE, 0)
    assert "runaway_rate below 5 % does not hold: 19 of 150 rows, 12.7 %" in reason


def test_thin_evidence_with_hope_extends_by_the_rows_it_takes():
    """One failure in 113 rows buys the 53 rows that can still pass."""
    decision, reason, rows = ruling(runaway_rate=1)
    assert (decision, rows) == (Decision.EXTEND, 53)
    assert "runaway_rate" in reason


def test_thin_evidence_without_hope_iterates_and_names_the_metric():
    """Five failures in 113 rows pass within 600 with chance 6 %: no more rows are bought."""
    decision, reason, _ = ruling(runaway_rate=5)
    assert decision is Decision.ITERATE
    assert "runaway_rate below 5 % is undecided" in reason
    assert "chance 6%" in reason


def test_the_cap_ends_extending():
    """At the cap an open rule iterates."""
    assert ruling(cap=113, runaway_rate=1).decision is Decision.ITERATE


def test_hopes_multiply():
    """Two rules of chance 0.4 each have 0.16 together, which is futile."""
    assert ruling(runaway_rate=3).decision is Decision.EXTEND
    assert ruling(runaway_rate=3, failed_rate=3).decision is Decision.ITERATE


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({}, "PROCEED"),
        ({"runaway_rate": 1}, "EXTEND"),
        ({"runaway_rate": 5}, "STOP"),
        ({"runaway_rate": 40}, "STOP"),
    ],
)
def test_the_last_iteration_stops_where_others_iterate(changes, decision):
    """On the last iteration only ITERATE turns into STOP."""
    assert ruling(iteration=5, **changes).decision == decision


def test_soft_rules_never_decide():
    """A soft FAIL is reported and PROCEED stands."""
    checks = gates.assess_gate(pilot_qc(), tallies(), look(113))
    soft = replace(checks[0], hard=False, verdict=Verdict.FAIL)
    assert gates.decide([*checks, soft], 1, 5, 113, 600).decision is Decision.PROCEED


verdicts = st.sampled_from(list(Verdict))


@given(
    st.lists(st.tuples(verdicts, st.booleans(), st.floats(0, 1)), max_size=6),
    st.integers(1, 5),
    st.integers(1, 700),
)
def test_proceed_means_that_every_hard_rule_passed(found, iteration, rows):
    """Whatever the checks: PROCEED ⇔ all hard ones PASS; a hard FAIL always ITERATEs or STOPs."""
    checks = [
        GateCheck(
            "m",
            "below",
            0.05,
            1,
            10,
            0.1,
            0,
            1,
            verdict,
            hard=hard,
            chance=chance,
            rows_likely=9,
            alpha=ALPHA,
        )
        for verdict, hard, chance in found
    ]
    decision, _, extend = gates.decide(checks, iteration, 5, rows, 600)
    hard = {c.verdict for c in checks if c.hard}
    assert (decision is Decision.PROCEED) == (hard <= {Verdict.PASS})
    assert (extend > 0) == (decision is Decision.EXTEND)
    if Verdict.FAIL in hard:
        assert decision is (Decision.STOP if iteration == 5 else Decision.ITERATE)


# --- planning ----------------------------------------------------------------------------------


def test_auto_rows_are_the_fewest_that_can_pass_everything():
    """113 rows pass every rule of pilot_qc when nothing fails, 112 do not."""
    assert gates.rows_auto(pilot_qc(), ALPHA) == 113
    assert ruling(112).decision is Decision.EXTEND
    assert ruling(113).decision is Decision.PROCEED


def test_a_pilot_that_can_never_pass_says_which_rule_and_how_many_rows():
    """ "< 0.5 %" needs 1,148 rows, more than 600: the preflight says so before anything is paid."""
    strict = gates.bind_gate(Gate("g", (Rule("runaway_rate", "below", 0.005),)), METRICS)
    error = gates.never_passes(strict, ALPHA, 100)
    needed = gates.rows_auto(strict, ALPHA)
    assert isinstance(error, PreflightError)
    assert "runaway_rate" in str(error)
    assert f"{needed:,} rows" in str(error)
    assert gates.never_passes(strict, ALPHA, needed) is None
    assert gates.never_passes(pilot_qc(), ALPHA) is None


def test_the_cap_is_of_the_iteration_and_not_on_top_of_its_pilot():
    """A rule of 650 to 700 rows cannot pass in 100 rows extended to 600."""
    near = gates.bind_gate(Gate("g", (Rule("runaway_rate", "below", 0.0085),)), METRICS)
    assert 650 < gates.rows_auto(near, ALPHA) < 700
    assert gates.never_passes(near, ALPHA, 100) is not None


def test_the_plan_gives_chances_at_assumed_rates():
    """At a true 1 % "< 5 %" passes within 600 rows with 99.8 % and a median of 166 rows."""
    plan = {p.metric: p for p in gates.plan(pilot_qc(), ALPHA)}
    assert "delimiter_leakage" not in plan
    runaway = {round(a.failure_rate, 4): a for a in plan["runaway_rate"].assumptions}
    assert plan["runaway_rate"].rows_least == 113
    assert (runaway[0.01].chance, runaway[0.01].rows_median) == (
        pytest.approx(0.998, abs=1e-3),
        166,
    )
    assert runaway[0.04].rows_median is None


def smoke(k: int, n: int = 10, planned: int = 113) -> gates.Ruling:
    """The ruling on n rows of which k ran away, where 113 were planned."""
    gate = gates.Gate("one", (gates.Rule("runaway_rate", "below", 0.05),))
    look = gates.Look(gate.alpha(5), n, 600, planned=planned)
    checks = gates.assess_gate(gate, {"runaway_rate": {"k": k, "n": n}}, look)
    return gates.decide(checks, 1, 5, n, 600, look.planned)


@pytest.mark.parametrize(
    ("k", "decision", "rows"), [(0, "EXTEND", 103), (2, "EXTEND", 103), (10, "ITERATE", 0)]
)
def test_a_smoke_ends_on_what_fails_for_certain_only(k, decision, rows):
    """Ten runaways of ten fail at the iteration's own level; two of ten are no proof yet."""
    ruling = smoke(k)
    assert (ruling.decision, ruling.extend_rows) == (decision, rows)


def test_a_smoke_costs_no_confidence():
    """5,000 pilots at exactly 5 %, with a look after 10 rows: FAIL in at most its level, 1 %."""
    import numpy as np

    rng, failed = np.random.default_rng(0), 0
    for k, n in zip(*np.unique(rng.binomial(10, 0.05, 5000), return_counts=True), strict=True):
        failed += int(n) * (smoke(int(k)).decision == "ITERATE")
    assert failed <= 0.01 * 5000


def sliced(hard: bool, **failing: int) -> tuple[GateCheck, ...]:
    """The checks of a rule at 200 rows in every slice, with so many failures in each."""
    rule = Rule("runaway_rate", "below", 0.05)
    gate = Gate("one", (rule,), slices=("lang",), hard_slices=hard)
    tallies = {f"runaway_rate[lang={s}]": {"n": 200, "k": k} for s, k in failing.items()}
    whole = {"runaway_rate": {"n": 200 * len(failing), "k": sum(failing.values())}}
    look = Look(gate.alpha(5), 200 * len(failing), 1200)
    return gates.assess_gate(gate, {**whole, **tallies}, look)[1:]


def test_a_slice_that_fails_is_told_and_decides_only_where_it_is_hard():
    """German runs away in 30 of 200 rows: FAIL in its slice, the others pass."""
    for hard, decision in ((False, "EXTEND"), (True, "ITERATE")):
        checks = sliced(hard, de=30, en=0, fr=0)
        assert [c.verdict for c in checks] == ["FAIL", "PASS", "PASS"]
        open_ = GateCheck(
            "x", "below", 0.05, 1, 20, 0.05, 0, 1, Verdict.INCONCLUSIVE, chance=0.9, rows_likely=9
        )
        assert gates.decide((open_, *checks), 1, 5, 600, 1200).decision == decision


def test_many_slices_do_not_fail_by_chance():
    """Evidence of 1 in 200 fails a slice that stands alone, and none of twenty; nor does it pass one."""
    alone = {"de": 24, **{f"s{i}": 0 for i in range(20)}}
    assert 100 < stats.e_above(24, 200, 0.05) < 2000
    assert sliced(False, de=24)[0].verdict == "FAIL"
    assert sliced(False, **alone)[0].verdict == "INCONCLUSIVE"
    assert 100 < stats.e_below(1, 200, 0.05) < 2000
    assert sliced(False, de=1)[0].verdict == "PASS"
    assert {check.verdict for check in sliced(False, **{f"s{i}": 1 for i in range(20)})} == {
        "INCONCLUSIVE"
    }


def test_slices_are_read_and_kept(tmp_path):
    """Both forms, inherited by `extends`, and part of the gate's identity."""
    (tmp_path / "a.yaml").write_text("gate: a\nslices: [lang]\n")
    (tmp_path / "b.yaml").write_text("extends: a\nslices: {by: [lang], hard: true}\n")
    soft = gates.read_gate(tmp_path / "a.yaml")
    hard = gates.read_gate(tmp_path / "b.yaml", lambda name, place: tmp_path / f"{name}.yaml")
    assert (soft.slices, soft.hard_slices, hard.hard_slices) == (("lang",), False, True)
    assert Gate.from_json(hard.as_json()).hash == hard.hash != soft.hash
    (tmp_path / "c.yaml").write_text("gate: c\nslices: lang\n")
    with pytest.raises(GateFileError, match="list of columns") as caught:
        gates.read_gate(tmp_path / "c.yaml")
    assert caught.value.place.line == 2


def test_a_look_without_room_predicts_nothing(monkeypatch):
    """A million rows near the limit, and no further row to buy: undecided, with no chance, at once."""

    def predict(*_: object) -> None:
        raise AssertionError("seconds over a million rows")

    monkeypatch.setattr("nexa_core.stats.predict_pass", predict)
    rule = Rule("runaway_rate", "below", 0.05)
    tally = {"n": 1_000_000, "k": 49_950}
    check = gates.assess(rule, tally, Look(0.01, 1_000_000, 1_000_000))
    assert (check.verdict, check.chance, check.rows_needed) == ("INCONCLUSIVE", 0.0, None)


@pytest.mark.parametrize(("value", "fits"), [(64, True), (64.0, False), (64.5, False)])
def test_a_whole_number_stays_one(value: float, fits: bool) -> None:
    """What the pipeline could not take afterwards is refused before, with the patch it is in."""
    space = {"a.sampling.max_tokens": {"min": 16, "max": 512}}
    refused = refuse_changes(
        {"a.sampling.max_tokens": value}, {"a.sampling.max_tokens": 256}, space
    )
    assert (refused is None) is fits
