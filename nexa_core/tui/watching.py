"""What the screens know of the watched run: read in a thread, a little at a time, and drawn from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nexa_core.actions.following import Follower
from nexa_core.actions.watching import Progress

if TYPE_CHECKING:
    from nexa_core.actions.gauging import Gauges
    from nexa_core.workspace import Workspace

__all__ = ["Watching"]

SECONDS_APART = 1.0
"""Between two looks at the manifests, however many shards are committed."""


class _Found(NamedTuple):
    """What a closer look at a run has found."""

    gauges: dict[str, Gauges]
    reviews: Sequence[Mapping[str, Any]]


class Watching:
    """One run as the screens see it: from events, manifests and records, never through its process."""

    def __init__(self, run_folder: Path, workspace: Workspace) -> None:
        self.run = run_folder.name
        self.run_folder, self.workspace = run_folder, workspace
        self.problem = ""
        """Why something of the run cannot be read."""
        self.gauges: dict[str, Gauges] = {}
        """The gate over each unit, by the unit's label, in the order of time."""
        self.reviews: Sequence[Mapping[str, Any]] = ()
        self.commits = 0
        """Grows with every commit that was seen: rows may have come."""
        self._follower = Follower(run_folder)
        self._seen: tuple[object, ...] = ()
        self._looked_at = float("-inf")
        self._drawn = ""

    @property
    def progress(self) -> Progress:
        return self._follower.progress

    @property
    def status(self) -> str:
        return self._follower.status

    @property
    def is_moving(self) -> bool:
        """Whether a process works on the run."""
        return self.status in ("running", "starting")

    @property
    def waits_for_signature(self) -> bool:
        """Whether the run waits for what a person says at its gate."""
        return self.status == "waiting" and bool(self.reviews) and self.reviews[-1]["waiting"]

    @property
    def is_signed(self) -> bool:
        """Whether a person has decided, and the run has not gone on from it yet."""
        ended = self.status in ("waiting", "stopped")
        return ended and bool(self.reviews) and bool(self.reviews[-1]["signature"])

    @property
    def can_sign(self) -> bool:
        """Whether there is a decision that no one has signed; signing itself looks closer."""
        return bool(self.reviews) and not self.reviews[-1]["signature"] and not self.is_moving

    @property
    def can_go_on(self) -> bool:
        """Whether taking the run up would do anything: not where a signature is what it lacks."""
        from nexa_core.actions.continuing import can_continue

        return can_continue(self.status) and not self.waits_for_signature

    @property
    def is_caught_up(self) -> bool:
        """Whether the log has been read to its end."""
        return self._follower.caught_up

    def read(self) -> Callable[[], bool]:
        """Look what has happened: blocks, and belongs into a thread.

        What comes back takes it in, and says whether anything is to be drawn again: it belongs into
        the screens' own thread, so that nothing changes while it is drawn.
        """
        try:
            if not self._follower.caught_up:
                for _ in self._follower.catch_up():
                    time.sleep(0.002)  # the screens' thread comes in between
                return lambda: True
            batch = self._follower.fetch()
            found = self._look_closer()
        except Exception as error:  # a run that cannot be read is a note, and no end of the screens
            problem = str(error) or type(error).__name__
            return lambda: self._note(problem)
        return lambda: self._take(batch, found)

    def _take(self, batch: Any, found: _Found | None) -> bool:
        changed = self._follower.take(batch) | self._note("")
        if found is not None:
            self.gauges, self.reviews, changed = found.gauges, found.reviews, True
            self.commits += 1
        drawn, self._drawn = self._drawn, self.status
        return changed or drawn != self._drawn

    def _note(self, problem: str) -> bool:
        told, self.problem = self.problem, problem
        return told != problem

    def _look_closer(self) -> _Found | None:
        """Measure the gate and read the records again, where they can have changed."""
        progress, now = self.progress, time.monotonic()
        rows = sum(progress.rows.values())
        seen = (progress.iteration, rows, len(progress.decisions), progress.status)
        if seen == self._seen or now - self._looked_at < SECONDS_APART:
            return None
        self._seen, self._looked_at = seen, now
        return _Found(self._gauge(progress), self._review())

    def _gauge(self, progress: Progress) -> dict[str, Gauges]:
        from nexa_core.actions.gauging import read_gauges

        found = {}
        for number in range(1, (progress.iteration or 0) + 1):
            label = f"pilot {number}"
            # An iteration that is over does not change any more.
            over = number != progress.iteration and label in self.gauges
            found[label] = self.gauges[label] if over else read_gauges(self.run_folder, number)
        if "scale" in progress.phases:
            found["scale"] = read_gauges(self.run_folder, progress.iteration, in_scale=True)
        return {label: gauges for label, gauges in found.items() if gauges.gauges}

    def _review(self) -> list[Mapping[str, Any]]:
        from nexa_core.actions.reviewing import gate_show

        return [review.as_json() for review in gate_show(self.run, workspace=self.workspace)]

    @property
    def current(self) -> Gauges | None:
        """The gate over the unit that is worked on now."""
        return list(self.gauges.values())[-1] if self.gauges else None
