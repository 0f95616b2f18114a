"""Review records: complete, in plain words, chained, and the same decision whenever replayed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from nexa_core import gates, reviews
from nexa_core.errors import StoreError
from nexa_core.gates import Gate, Look, Rule
from nexa_core.records import Decision, Evidence, Opinion
from nexa_core.reviews import Review

TEMPERATURE = "respond.sampling.temperature"
GATE = Gate(
    "pilot_qc",
    (
        Rule("runaway_rate", "below", 0.05),
        Rule("acceptance_rate", "at_least", 0.5),
        Rule("median_tokens", "below", 40, aggregate="median"),
    ),
)
SPACE = {TEMPERATURE: {"min": 0.05, "max": 1.0}}


def cooler(_: Evidence, ask: object = None) -> Opinion:
    """A reviewer that always proposes 0.3."""
    return Opinion("policy", "runaway_rate fails", {TEMPERATURE: 0.3}, cites=("runaway_rate",))


def decide(
    k: int = 19, n: int = 150, iteration: int = 1, opinion: Opinion | None = None, **more
) -> Review:
    """A record as a campaign makes it: k runaways of n rows, one reviewer."""
    tallies = {
        "runaway_rate": {"k": k, "n": n},
        "acceptance_rate": {"k": n - 5, "n": n},
        "median_tokens": {"n": n, "histogram": {"20": n}},
    }
    look = Look(GATE.alpha(5), n, 600)
    checks = gates.assess_gate(GATE, tallies, look)
    ruling = gates.decide(checks, iteration, 5, n, 600)
    evidence = Evidence(iteration, 5, checks, {TEMPERATURE: 1.0}, SPACE)
    opinions = (
        [opinion or cooler(evidence)] if ruling.decision is Decision.ITERATE or opinion else []
    )
    end = gates.conclude(ruling, opinions, evidence)
    given = Review(
        "run-1",
        iteration,
        5,
        GATE.as_json(),
        GATE.hash,
        look,
        tallies,
        [c.as_json() for c in checks],
        ruling.decision,
        end.decision,
        end.reason,
        end.extend_rows,
        end.changes,
        end.patch_reason,
        end.waiting,
        end.refused,
        [o.as_json() for o in opinions],
        {TEMPERATURE: 1.0},
        SPACE,
    )
    return replace(given, **more)


def campaign(folder: Path) -> tuple[Review, ...]:
    """FAIL, EXTEND, PROCEED: three records."""
    for k, n, iteration in [(19, 150, 1), (1, 113, 2), (1, 166, 2)]:
        reviews.write_review(folder, decide(k, n, iteration))
    return reviews.read_reviews(folder)


def test_records_are_numbered_and_chained(tmp_path):
    """Each record holds the hash of the one before it; the head holds them all."""
    found = campaign(tmp_path)
    assert [r.decision for r in found] == ["ITERATE", "EXTEND", "PROCEED"]
    assert [r.previous for r in found] == ["", found[0].hash, found[1].hash]
    assert reviews.find_head(tmp_path) == found[2].hash
    assert (tmp_path / "0001-pilot_qc.json").exists()
    assert reviews.verify_chain(tmp_path, found[2].hash) == ()


def test_a_decision_made_again_after_a_kill_is_written_once(tmp_path):
    """Resume decides again; the record that is there already is returned."""
    first = reviews.write_review(tmp_path, decide())
    assert reviews.write_review(tmp_path, decide(cost_nano=9)) == first
    assert len(list(tmp_path.iterdir())) == 2


def test_every_stored_decision_replays(tmp_path):
    """Verdicts, e-values, bounds, decisions and the policy's opinion come out again."""
    for review in campaign(tmp_path):
        assert reviews.replay(review, [cooler]) == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"decision": "PROCEED"}, "decision"),
        ({"ruling": "PROCEED"}, "ruling"),
        ({"tallies": decide(k=2).tallies}, "checks[0].k"),
        ({"gate_hash": "0" * 64}, "gate_hash"),
        ({"look": Look(0.05, 150, 600)}, "alpha"),
        ({"changes": {TEMPERATURE: [1.0, 0.2]}}, f"changes.{TEMPERATURE}[1]"),
    ],
)
def test_replay_says_where_a_record_disagrees_with_itself(change, what):
    """A record whose counts do not lead to its decision is told with both values."""
    assert what in [d.what for d in reviews.replay(decide(**change))]


def test_replay_finds_a_reviewer_that_changed_its_mind():
    """A deterministic reviewer that answers otherwise today is a difference."""
    other = lambda evidence, ask: replace(cooler(evidence), changes={TEMPERATURE: 0.5})  # noqa: E731
    (found,) = reviews.replay(decide(), [other])
    assert (found.recorded, found.recomputed) == (0.3, 0.5)


@pytest.mark.parametrize("flips", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_any_flipped_bit_is_found(tmp_path, flips):
    """Records with one bit flipped, in JSON or Markdown: each is reported."""
    head, rng = campaign(tmp_path)[-1].hash, random.Random(5)
    files = sorted(tmp_path.iterdir())
    for _ in range(flips):
        path = rng.choice(files)
        whole = path.read_bytes()
        edited = bytearray(whole)
        edited[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(edited)
        assert reviews.verify_chain(tmp_path, head), path
        path.write_bytes(whole)
    assert reviews.verify_chain(tmp_path, head) == ()


@pytest.mark.slow
def test_every_byte_of_a_record_and_of_its_markdown_is_held(tmp_path):
    """Exhaustively: one bit of each byte, another one from byte to byte."""
    reviews.write_review(tmp_path, decide())
    (record,), (markdown,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    for path in (record, markdown):
        whole = path.read_bytes()
        for position in range(len(whole)):
            edited = bytearray(whole)
            edited[position] ^= 1 << position % 8
            path.write_bytes(edited)
            assert reviews.verify_chain(tmp_path), (path.name, position)
        path.write_bytes(whole)
    assert reviews.verify_chain(tmp_path) == ()


@pytest.mark.parametrize(
    ("old", "new"), [(b'": ', b'":  '), (b"0.05,", b"0.050,"), (b'"run"', b'"r\\u0075n"')]
)
def test_an_edit_that_means_the_same_is_found(tmp_path, old, new):
    """A space, a zero and an escape change no value, and still show."""
    campaign(tmp_path)
    path = tmp_path / "0002-pilot_qc.json"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert "0002-pilot_qc.json: its content" in reviews.verify_chain(tmp_path)[0]


def test_a_cut_tail_a_gap_and_a_rewritten_record_are_found(tmp_path):
    """Records removed at the end or in the middle, and one sealed anew, break the chain."""
    found = campaign(tmp_path)
    (tmp_path / "0003-pilot_qc.json").unlink()
    assert "not with" in reviews.verify_chain(tmp_path, found[2].hash)[0]
    forged = replace(found[0], reason="All is well.")
    forged = replace(forged, hash=forged.seal())
    (tmp_path / "0001-pilot_qc.json").write_bytes(forged.as_bytes())
    (tmp_path / "0001-pilot_qc.md").write_text(reviews.render_review(forged))
    assert "0002-pilot_qc.json: the record before it" in reviews.verify_chain(tmp_path)[0]
    (tmp_path / "0001-pilot_qc.json").unlink()
    assert "place 1" in reviews.verify_chain(tmp_path)[0]


def test_a_file_that_is_no_record_is_told_with_its_path(tmp_path):
    """Half a record is a store error on reading and a finding on verification."""
    (tmp_path / "0001-pilot_qc.json").write_text('{"run": ')
    assert "no review record" in reviews.verify_chain(tmp_path)[0]
    with pytest.raises(StoreError, match=r"0001-pilot_qc\.json"):
        reviews.read_reviews(tmp_path)


def test_the_record_keeps_few_rows_with_long_text_cut(tmp_path):
    """Eight rows at most, a thousand characters each, hostile characters and infinities as text."""
    row = {"response": "x" * 5000, "half": "\ud800", "score": float("nan")}
    written = reviews.write_review(tmp_path, decide(samples=[row] * 20))
    (read,) = reviews.read_reviews(tmp_path)
    assert read.as_json() == written.as_json()
    assert len(read.samples) == 8
    assert len(read.samples[0]["response"]) == 1000
    assert "(5,000 characters)" in read.samples[0]["response"]
    assert reviews.verify_chain(tmp_path) == ()


def test_the_markdown_says_it_in_plain_words():
    """What was measured, how sure, what would have passed, and what is next."""
    failed = reviews.render_review(decide())
    assert "19 of 150 rows, 12.7 %" in failed
    assert "150 rows pass without a failure only; there were 19" in failed
    assert "| respond.sampling.temperature | 1.0 | 0.3 |" in failed
    extended = reviews.render_review(decide(1, 113))
    assert (
        "53 more rows without a failure would pass; chance to pass within the cap 91 %" in extended
    )


def test_text_of_models_is_inert_in_the_markdown():
    """Escapes, overrides and markup of a row or a reviewer show literally."""
    hostile = "\x1b]52;c;x\x07 \u202e <img src=x> [a](b)\n# head\n```"
    opinion = Opinion("llm", hostile, {TEMPERATURE: 0.3})
    text = reviews.render_review(decide(opinion=opinion, samples=[{"response": hostile}]))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "\n# head" not in text
    assert "\n```" not in text
    assert "\\<img src=x\\> \\[a\\](b)" in text


# --- reviewers' opinions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({TEMPERATURE: 2.0}, "lies outside 0.05 to 1"),
        ({TEMPERATURE: "0.3"}, "is no number"),
        ({TEMPERATURE: True}, "is no number"),
        ({TEMPERATURE: float("nan")}, "lies outside"),
        ({"accept.min_score": 0.0}, "not in search_space"),
        ({TEMPERATURE: 0.3, "gate": "none"}, "not in search_space"),
    ],
)
def test_a_patch_outside_the_space_is_refused_whole_and_told(changes, why):
    """No part of it is taken, and without another the campaign stops."""
    review = decide(opinion=Opinion("llm", "do it", changes))
    assert (review.decision, review.changes) == ("STOP", {})
    assert why in review.refused[0]


def test_the_first_valid_patch_wins():
    """Reviewers are heard in order; empty and refused patches are passed over."""
    checks = gates.assess_gate(GATE, decide().tallies, decide().look)
    evidence = Evidence(1, 5, checks, {TEMPERATURE: 1.0}, SPACE)
    opinions = [
        Opinion("a", "no idea"),
        Opinion("b", "", {"x": 1}),
        Opinion("c", "", {TEMPERATURE: 0.4}),
    ]
    end = gates.conclude(gates.decide(checks, 1, 5, 150, 600), opinions, evidence)
    assert end.changes == {TEMPERATURE: (1.0, 0.4)}


def test_a_cited_veto_iterates_and_an_uncited_one_abstains():
    """After PASS a veto needs evidence; on the last iteration it calls for a person."""
    veto = Opinion(
        "llm", "answers are copies", {TEMPERATURE: 0.4}, veto=True, cites=("runaway_rate",)
    )
    passed = {"k": 0, "n": 113}
    assert decide(**passed, opinion=veto).decision == "ITERATE"
    silent = decide(**passed, opinion=replace(veto, cites=()))
    assert (silent.decision, len(silent.refused)) == ("PROCEED", 1)
    last = decide(**passed, iteration=5, opinion=veto)
    assert last.waiting
    assert "A person must decide" in last.reason


@pytest.mark.parametrize(
    ("k", "n", "iteration", "decision"), [(1, 113, 2, "EXTEND"), (19, 150, 5, "STOP")]
)
def test_a_veto_has_no_say_before_the_gate_passed(k, n, iteration, decision):
    """EXTEND and STOP stand, whatever a reviewer says."""
    veto = Opinion("llm", "no", {TEMPERATURE: 0.4}, veto=True, cites=("runaway_rate",))
    review = decide(k, n, iteration, opinion=veto)
    assert (review.decision, review.changes) == (decision, {})


@pytest.mark.parametrize("opinions", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_opinion_turns_a_fail_into_proceed(opinions):
    """Random opinions on a hard FAIL: it iterates or stops, never proceeds."""
    rng = random.Random(9)
    values = [0.3, 1.0, -1, None, "PROCEED", [], {"min": 0}, float("inf")]
    for _ in range(opinions):
        changes = {
            rng.choice([TEMPERATURE, "gate", "accept"]): rng.choice(values) for _ in range(2)
        }
        opinion = Opinion("llm", "PROCEED", changes, rng.random() < 0.5, ("PROCEED",))
        review = decide(iteration=rng.choice([1, 5]), opinion=opinion)
        assert review.decision in ("ITERATE", "STOP")
        assert all(path == TEMPERATURE for path in review.changes)


def test_the_json_is_one_object_with_what_the_design_names(tmp_path):
    """Evidence, bounds, thresholds' hash, opinions, decision, diff, cost and the previous hash."""
    written = reviews.write_review(tmp_path, decide(cost_nano=5))
    data = json.loads((tmp_path / written.file_name).read_text())
    assert data["checks"][0]["e_fail"] > 100
    assert data["changes"] == {TEMPERATURE: [1.0, 0.3]}
    assert data["opinions"][0]["reviewer"] == "policy"
    assert {"gate_hash", "previous", "hash", "cost_nano", "created_at", "samples"} <= set(data)


def later(method: str, tallies, terms, gate: Gate, checks, ruling, **more) -> Review:
    """A record of a phase after the pilot."""
    alpha = gates.drift_alpha(gate, 0) if method == "drift" else gate.alpha(1)
    return Review(
        "run-1",
        0,
        1,
        gate.as_json(),
        gate.hash,
        Look(alpha, 300, 300),
        tallies,
        [check.as_json() for check in checks],
        ruling.decision,
        ruling.decision,
        ruling.reason,
        method=method,
        terms=terms,
        **more,
    )


def drift_record(failing: int) -> Review:
    """Scale rows of which `failing` of 300 ran away, after a pilot with 1 of 166."""
    pilot = {"runaway_rate": {"n": 166, "k": 1}, "acceptance_rate": {"n": 166, "k": 160}}
    scale = {"runaway_rate": {"n": 300, "k": failing}, "acceptance_rate": {"n": 300, "k": 290}}
    checks = gates.assess_drift(GATE, pilot, scale, gates.drift_alpha(GATE, 0))
    ruling = gates.rule_on_drift(GATE, checks, pilot)
    terms = {"pilot": pilot, "accepted": 0}
    stopped = ruling.decision is Decision.STOP
    return later("drift", scale, terms, GATE, checks, ruling, phase="scale", waiting=stopped)


@pytest.mark.parametrize(("failing", "decision"), [(3, "PROCEED"), (60, "STOP")])
def test_a_drift_is_decided_and_replayed_from_its_counts(tmp_path, failing, decision):
    """The pilot's counts are among the terms; a rise to 20 % stops the run and waits."""
    written = reviews.write_review(tmp_path, drift_record(failing))
    assert written.decision == decision
    assert written.waiting is (decision == "STOP")
    assert ("60 of" in written.reason or "20 %" in written.reason) is written.waiting
    assert reviews.replay(written) == ()
    forged = replace(written, terms={**written.terms, "pilot": {}})
    assert decision == "PROCEED" or reviews.replay(forged)


@pytest.mark.parametrize(
    ("c", "required", "decision"),
    [(40, True, "PROCEED"), (12, True, "STOP"), (12, False, "PROCEED")],
)
def test_an_evaluation_is_decided_by_the_registered_test(tmp_path, c, required, decision):
    """40 won and 10 lost beat the base; 12 and 10 do not, and only stop where that is required."""
    gate = gates.evaluation_gate(0.05, 0.02, required)
    tallies = {gates.GAIN: {"a": 50, "b": 10, "c": c, "d": 38}}
    terms = {"test": "mcnemar_midp", "alpha": 0.05, "effect": 0.02, "item_hash": "x"}
    checks = gates.assess_pairs(gate, tallies, terms)
    record = later("paired", tallies, terms, gate, checks, gates.settle(checks), phase="evaluate")
    written = reviews.write_review(tmp_path, record)
    assert (written.decision, written.file_name) == (decision, "0001-evaluation.json")
    assert reviews.replay(written) == ()
    assert reviews.verify_chain(tmp_path, written.hash) == ()


def test_who_accepts_drifts_again_and_again_stays_within_the_error():
    """The levels of a first test and of all after it add up to the rules' share of 5 %."""
    spent = sum(2 * gates.drift_alpha(GATE, n) for n in range(20))
    assert gates.drift_alpha(GATE, 1) < gates.drift_alpha(GATE, 0)
    assert spent * 3 / 2 == pytest.approx(0.05)
