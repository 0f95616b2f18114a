"""The rule base: for each metric, which knobs to turn which way, and why. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["KNOBS", "OTHER_KNOB", "RULES", "Knob", "Move", "MoveRule", "RuleBase", "find_rule"]

Direction = Literal["down", "up", "other"]


@dataclass(frozen=True, slots=True)
class Knob:
    """How a parameter is turned: its value where none is set, and the size of a turn.

    A turn of strength s in 0…1 multiplies by 1 − s (`scale="ratio"`) or adds s times `step`.
    """

    default: float | None
    scale: Literal["ratio", "sum"]
    step: float = 0.0
    digits: int = 2


KNOBS = {
    "temperature": Knob(1.0, "ratio"),
    "top_p": Knob(1.0, "sum", 0.15),
    "top_k": Knob(None, "ratio", digits=0),
    "min_p": Knob(0.0, "sum", 0.1, 3),
    "repetition_penalty": Knob(1.0, "sum", 0.2),
    "frequency_penalty": Knob(0.0, "sum", 0.6),
    "presence_penalty": Knob(0.0, "sum", 0.6),
    "max_tokens": Knob(None, "ratio", digits=0),
}
"""By the last word of a parameter's path; `prompt` and all else with choices has no size."""
OTHER_KNOB = Knob(None, "ratio", digits=4)
"""A parameter that only a user's rule knows."""


@dataclass(frozen=True, slots=True)
class Move:
    """Turn a knob.

    `from_gap`: at once only where the failure rate is at least that many times its limit; else when
    no move before it is left. `to`: the value that is turned to, in one go, where it lies ahead;
    without it the size of the turn follows from the gap.
    """

    knob: str
    direction: Direction
    from_gap: float = 0.0
    to: float | None = None


@dataclass(frozen=True, slots=True)
class MoveRule:
    """What to do when a metric fails; `why` ends the sentence "… because".

    `of_answer`: the metric reads one column, so that only the step that writes it is turned.
    """

    moves: tuple[Move, ...]
    why: str
    of_answer: bool = True


_LAST = 1e9
_HARMLESS = 1.15
"""The highest repetition penalty that does no harm: a higher one pushes a model off the tokens that end an answer."""
_EASE = Move("repetition_penalty", "down", to=_HARMLESS)


def _raise(from_gap: float = _LAST) -> Move:
    return Move("repetition_penalty", "up", from_gap, to=_HARMLESS)


def _tighten(*more: Move) -> tuple[Move, ...]:
    """A penalty that is too high eased, colder, then narrower where the gap is wide."""
    return (_EASE, Move("temperature", "down"), Move("top_p", "down", 2.0), *more)


RuleBase = Mapping[str, Mapping[str, MoveRule]]

RULES: RuleBase = {
    "failed_rate": {
        "": MoveRule((), "failed calls are errors of an endpoint or a parser: look at the calls")
    },
    "empty_rate": {
        "": MoveRule(
            (
                Move("repetition_penalty", "down"),
                Move("prompt", "other", _LAST),
                Move("temperature", "down", _LAST),
            ),
            "a penalty on repeating the prompt's own words makes a model end at once",
        )
    },
    "runaway_rate": {
        "": MoveRule(
            _tighten(_raise(), Move("prompt", "other", _LAST)),
            "hot sampling leaves the answer and begins the next record",
        )
    },
    "token_limit_rate": {
        "": MoveRule(
            _tighten(_raise(4.0), Move("max_tokens", "up", _LAST)),
            "answers that ramble or loop are cut at the token limit",
        )
    },
    "delimiter_leakage": {
        "": MoveRule(
            _tighten(_raise(), Move("prompt", "other", _LAST)),
            "hot sampling writes the record's delimiters into the answer",
        )
    },
    "refusal_rate": {
        "": MoveRule(
            (Move("prompt", "other"), Move("temperature", "down", _LAST)),
            "refusals follow the wording of the prompt",
        )
    },
    "unscored_rate": {
        "": MoveRule(
            (Move("temperature", "down"), Move("prompt", "other", _LAST)),
            "judgements of rambling answers are what cannot be parsed",
            of_answer=False,
        )
    },
    "acceptance_rate": {
        "": MoveRule(
            _tighten(Move("prompt", "other", _LAST)),
            "colder sampling keeps to what the model is sure of",
            of_answer=False,
        )
    },
    "median_tokens": {
        "below": MoveRule(
            _tighten(Move("prompt", "other", _LAST), Move("max_tokens", "down", _LAST)),
            "hot sampling makes answers long",
        ),
        "equals": MoveRule((), "a median held to one value cannot be steered"),
        "at_least": MoveRule(
            (
                Move("max_tokens", "up"),
                Move("repetition_penalty", "down"),
                Move("temperature", "up", _LAST),
                Move("prompt", "other", _LAST),
            ),
            "a low token limit and a high penalty make answers short",
        ),
    },
    "duplicate_rate": {
        "": MoveRule(
            (
                Move("temperature", "up"),
                Move("top_p", "up", 2.0),
                Move("presence_penalty", "up", _LAST),
                Move("frequency_penalty", "up", _LAST),
            ),
            "cold sampling says the same again",
            of_answer=False,
        )
    },
    "rejected_rate": {
        "": MoveRule(
            _tighten(Move("prompt", "other", _LAST)),
            "colder sampling keeps to what the model is sure of",
            of_answer=False,
        )
    },
    "safety_flag_rate": {
        "": MoveRule(
            (Move("prompt", "other"), Move("temperature", "down", _LAST)),
            "what a model is told decides what it says",
        )
    },
    "mean_score": {
        "": MoveRule(
            _tighten(Move("prompt", "other", _LAST)),
            "colder sampling keeps to what the model is sure of",
            of_answer=False,
        )
    },
    "distinct_n": {
        "": MoveRule(
            (Move("temperature", "up"), Move("repetition_penalty", "up", _LAST)),
            "cold sampling says the same again",
        )
    },
    "served_by_mix": {
        "": MoveRule((), "who answers is decided by an endpoint's routing, not by sampling")
    },
    "nonfinite_loss_rate": {"": MoveRule((), "a training is changed by hand, not by a campaign")},
    "loss_spike_rate": {"": MoveRule((), "a training is changed by hand, not by a campaign")},
}
"""By metric, then by the rule's operator ("" for any). Their order is their priority: where two
metrics want one knob turned both ways, the earlier one has it."""


def find_rule(metric: str, op: str, base: RuleBase = RULES) -> MoveRule | None:
    """The rule for a metric that fails under an operator of a gate."""
    by_op = base.get(metric, {})
    return by_op.get(op, by_op.get(""))
