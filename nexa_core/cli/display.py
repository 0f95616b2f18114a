"""Shows a run while it works: a live screen on a terminal, timestamped lines elsewhere; fed by events."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from nexa_core.actions.watching import Progress, follow, read_outline
from nexa_core.cli.lines import Lines

if TYPE_CHECKING:
    from nexa_core.events import Event
    from nexa_core.workspace import Workspace

__all__ = ["Display", "wants_screen"]


class Shown(Protocol):
    """A way to show a run."""

    def start(self) -> None: ...

    def update(self, progress: Progress, record: dict[str, object]) -> None: ...

    def stop(self) -> None: ...


class Display:
    """Listens to a run and shows it until the block ends.

    Example:
        with Display(workspace) as display:
            run_pipeline("bootstrap", workspace=workspace, listeners=[display.listen])
    """

    def __init__(self, workspace: Workspace, shown: Shown | None = None) -> None:
        self._workspace = workspace
        self._shown = shown or _choose()
        self._lock = threading.Lock()
        self._progress = Progress()

    def listen(self, event: Event) -> None:
        """Take in an event, as the engine announces it."""
        record = event.as_json()
        with self._lock:
            if record["event"] in ("RunStarted", "RunResumed"):
                self._meet(str(record["run"]), record["event"] == "RunResumed")
            self._progress.apply(record, time.time())
            self._shown.update(self._progress, record)

    def _meet(self, run: str, resumed: bool) -> None:
        """Learn what the run is going to do, and of a resumed one what it has done."""
        folder = self._workspace.artifacts_path / run
        if resumed:
            self._progress = follow(folder)
        else:
            outline = read_outline(folder)
            self._progress = Progress(outline, budget_usd=outline.budget_usd)

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.stop()


def wants_screen() -> bool:
    """Whether stderr is a terminal on which a screen can live."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not plain


def _choose() -> Shown:
    if not wants_screen():
        return Lines()
    from nexa_core.cli.screen import Screen

    return Screen()
