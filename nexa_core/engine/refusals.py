"""How many requests an endpoint refuses for the rate: whether all are meant, and whether less would help."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Refusals"]

LATELY, LONG = 16, 64
"""Outcomes over which the share of refusals is averaged."""
MOST = 0.5
"""The share from which an endpoint counts as refusing everybody."""
USUAL, MORE = 0.125, 2.0
"""The share from which refusals may be usual, and the factor over it from which they are too many."""


@dataclass(slots=True)
class Refusals:
    """The share of requests that are refused for the rate, lately and for long.

    Refusals that come whatever the limit is, as of a provider that is busy with others, end no more by
    cutting: where they are as many as they long were, less at once would only be slower.
    """

    lately: float = 0.0
    for_long: float = 0.0
    count: int = 0

    @property
    def are_most(self) -> bool:
        """The endpoint refuses more than it answers: what it says holds for everybody."""
        return self.lately >= MOST

    @property
    def are_new(self) -> bool:
        """Whether there are more than usual, so that less at once may help."""
        return self.for_long < USUAL or self.lately > MORE * self.for_long

    def add(self, is_refused: bool) -> None:
        """One more outcome."""
        self.count += 1
        if not is_refused and not self.for_long and not self.lately:
            return
        self.lately += (is_refused - self.lately) / min(self.count, LATELY)
        self.for_long += (is_refused - self.for_long) / LONG
        if self.are_most:
            self.for_long = 0.0  # an endpoint that is full refuses most; none of that is usual
