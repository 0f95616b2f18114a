"""Votes become one opinion: by a majority of all that were asked, at the median, whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from nexa_core import Evidence, GateCheck, Verdict
from nexa_reviewers.replies import InvalidReplyError, Vote, read_vote
from nexa_reviewers.voting import count_votes

T, P, M = "a.sampling.temperature", "a.sampling.top_p", "a.prompt"
SPACE = {
    T: {"min": 0.1, "max": 1.0},
    P: {"min": 0.5, "max": 1.0},
    M: {"choices": ["one", "two"]},
}


def evidence(verdict: Verdict) -> Evidence:
    check = GateCheck("runaway_rate", "below", 0.05, 9, 43, 0.2, 0.1, 0.3, verdict)
    rows = ({"id": "row-1"}, {"id": "row-2"})
    return Evidence(1, 5, (check,), {T: 0.7, P: 0.9, M: "one"}, SPACE, rows)


def vote(cites: tuple[str, ...] = (), veto: bool = False, sure: float = 0.5, **changes: Any) -> Any:
    named = {"t": T, "p": P, "m": M}
    listed = [{"path": named[name], "value": value} for name, value in changes.items()]
    given = {"reason": f"sure {sure}", "veto": veto, "changes": listed, "cites": list(cites)}
    return Vote.model_validate({**given, "confidence": sure}), ""


FAILED, PASSED = evidence(Verdict.FAIL), evidence(Verdict.PASS)
LOST = (None, "the reply is no JSON object")


@pytest.mark.parametrize(
    ("votes", "changes"),
    [
        ([vote(t=0.3), vote(t=0.5), vote(t=0.4)], {T: 0.4}),
        ([vote(t=0.3), vote(t=0.5), vote(t=0.9)], {T: 0.3}),
        ([vote(t=0.3), vote(), vote()], {}),
        ([vote(t=0.3), vote(t=0.5), LOST], {T: 0.3}),
        ([vote(t=0.3), LOST, LOST], {}),
        ([vote(t=0.3, p=0.8), vote(t=0.2), vote(p=0.7)], {T: 0.2, P: 0.7}),
        ([vote(m="two"), vote(m="two"), vote(t=0.3)], {M: "two"}),
        ([vote(t=0.7), vote(t=0.7), vote(t=0.7)], {}),
        ([vote(t=0.3, p=9.0), vote(t=0.3), vote(p=0.8)], {}),
    ],
)
def test_a_change_needs_most_votes_turning_the_same_way(votes: Any, changes: Any) -> None:
    """Its value is the median of theirs; a vote that leaves the space has no say at all."""
    assert count_votes(votes, FAILED).changes == changes


@pytest.mark.parametrize(
    ("votes", "vetoes"),
    [
        ([vote(("row-1",), True), vote(("row-2",), True), vote()], True),
        ([vote(("row-1",), True), vote((), True), vote((), True)], False),
        ([vote(("row-1",), True), vote(("row-9",), True), vote()], False),
        ([vote(("row-1",), True), vote(("runaway_rate",), True), LOST], True),
        ([vote(("row-1",), True), LOST, LOST], False),
    ],
)
def test_a_veto_needs_most_votes_each_citing_what_is_there(votes: Any, vetoes: bool) -> None:
    """An uncited veto is an abstention, and so is a vote that cannot be read."""
    assert count_votes(votes, PASSED).veto is vetoes


def test_the_surest_of_the_majority_speaks_for_it() -> None:
    """Its reason is the opinion's; the cites are those of the whole majority, and only real ones."""
    votes = [
        vote(("row-1", "nope"), True, 0.4),
        vote(("row-2",), True, 0.9),
        vote(sure=1.0),
    ]
    opinion = count_votes(votes, PASSED)
    assert opinion.reason == "2 of 3 votes: sure 0.9"
    assert opinion.cites == ("row-1", "row-2")
    assert opinion.raw is not None and opinion.raw["confidence"] == pytest.approx(0.65)


def test_after_a_failure_nobody_vetoes() -> None:
    """The gate has said no already."""
    assert not count_votes([vote(("row-1",), True)] * 3, FAILED).veto


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"reason": ""}',
        '{"reason":"x","veto":"yes","changes":[],"cites":[],"confidence":1}',
        '{"reason":"x","veto":true,"changes":[],"cites":[],"confidence":2}',
        '{"reason":"x","veto":true,"changes":[],"cites":[],"confidence":1,"decision":"PROCEED"}',
        '{"reason":"x","veto":true,"changes":[{"path":"a","value":1},{"path":"a","value":2}],"cites":[],"confidence":1}',
        "x" * 20_001,
        "[" * 5_000,
    ],
)
def test_what_is_no_vote_is_told_why(text: str) -> None:
    """Nothing is guessed, and an extra key is a refusal."""
    with pytest.raises(InvalidReplyError):
        read_vote(text)
