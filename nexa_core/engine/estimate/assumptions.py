"""What an estimate takes for granted, each thing by a name under which it can be set otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nexa_core.errors import UsageError

__all__ = ["Assumptions", "read_assumptions"]

_TOKENS = ".tokens"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody knows before the first call.

    `tokens` holds the length of the answers of single steps, by step id; the rest get `fill` of
    their `max_tokens`, or `answer` tokens where there is none.
    """

    acceptance: float = 0.8
    """The share of rows accepted at the first attempt."""
    fill: float = 0.5
    """The share of max_tokens that an answer has on average."""
    answer: int = 300
    """The tokens of an answer whose step has no max_tokens."""
    failure_part: float = 0.2
    """How much of a gate rule's limit its true failure rate is; acceptance has its own."""
    first_token_seconds: float = 0.8
    """What a remote call takes before its first token."""
    tokens_per_second: float = 60.0
    """How fast one remote answer is written."""
    local_tokens_per_second: float = 2000.0
    """How fast this machine writes, all answers of a batch together."""
    concurrency: int = 256
    """Remote calls under way where the role says nothing."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    """The names that somebody set."""
    measured: frozenset[str] = frozenset()
    """The names whose values an earlier run measured."""

    def expected(self, step: str, most: int | None) -> int:
        """The tokens that an answer of a step is expected to have."""
        if step in self.tokens:
            return min(self.tokens[step], most or self.tokens[step])
        return round(most * self.fill) if most else self.answer

    def as_json(self) -> dict[str, Any]:
        """Names and values; `given` lists those that somebody set, `measured` those of a run."""
        named = {name: getattr(self, name) for name in _NAMES}
        lengths = {f"{step}{_TOKENS}": tokens for step, tokens in self.tokens.items()}
        known = {"given": sorted(self.given), "measured": sorted(self.measured)}
        return {**named, **lengths, **known}


_NOT_NUMBERS = ("tokens", "given", "measured")
_NAMES = tuple(each.name for each in fields(Assumptions) if each.name not in _NOT_NUMBERS)
_SHARES = ("acceptance", "fill", "failure_part")


def read_assumptions(texts: Iterable[str], steps: Iterable[str]) -> Assumptions:
    """Assumptions as they are typed: `acceptance=0.6`, `answer.tokens=250` (a step's id first).

    Raises:
        UsageError: A name is unknown, or a value is no number, or not one it can have.
    """
    made, known = Assumptions(), [*_NAMES, *(f"{step}{_TOKENS}" for step in steps)]
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UsageError(
                f"'{text}' is nothing that an estimate assumes.", f"It assumes: {', '.join(known)}."
            )
        number = _read_number(text, name, value)
        given = made.given | {name}
        if name in _NAMES:
            change: dict[str, Any] = {name: number}
            made = replace(made, **change, given=given)
        else:
            tokens = {**made.tokens, name.removesuffix(_TOKENS): int(number)}
            made = replace(made, tokens=tokens, given=given)
    return made


def _read_number(text: str, name: str, value: str) -> float:
    whole = name in ("answer", "concurrency") or name not in _NAMES
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = -1
    if number <= 0 or (name in _SHARES and number > 1):
        wanted = "a whole number from 1" if whole else "a number above 0"
        wanted = "a share above 0, at most 1" if name in _SHARES else wanted
        raise UsageError(f"'{text}' cannot be assumed.", f"'{name}' takes {wanted}.")
    return number
