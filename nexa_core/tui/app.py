"""The application: which run is watched, which screen is shown, and when it is drawn again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from nexa_core.errors import NexaError
from nexa_core.tui.screens.page import Page
from nexa_core.tui.screens.runs import RunsPage
from nexa_core.tui.themes import THEME
from nexa_core.tui.watching import Watching
from nexa_core.tui.widgets.head import Head
from nexa_core.tui.widgets.keys import Keys
from nexa_core.visible import make_visible

if TYPE_CHECKING:
    from nexa_core.workspace import Workspace

__all__ = ["NexaApp"]

TICK_SECONDS = 0.25
"""Between two looks at the log: what a person sees moving, at no cost to the run."""
LIST_TICKS = 8


class NexaApp(App[None]):
    """`nexa watch`: four screens over the runs of one workspace."""

    TITLE = "nexa"
    CSS_PATH = "nexa.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit", show=False),
        Binding("question_mark", "help", "Help", show=False),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self, workspace: Workspace, run: str | None = None, *, awaits: bool = False
    ) -> None:
        # Without colours the terminal's own are kept: shades of grey are colours too.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.workspace = workspace
        self.watching: Watching | None = None
        self.runs: Sequence[Mapping[str, Any]] = ()
        self.has_listed = False
        self._pages: dict[tuple[str, str], Page] = {}
        self._first_run = run
        self._starting: set[str] = set()
        self._awaits = awaits
        """Whether the first run that comes is to be watched."""

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = "nexa"
        if self._first_run is None:
            self.push_screen(self._page("runs"))
        else:
            self.watching = Watching(self._folder(self._first_run), self.workspace)
            self.push_screen(self._page("run"))
        self.run_worker(self._follow(), group="follow")

    async def _follow(self) -> None:
        """Look at the run and the list of runs again and again, in a thread, one look at a time."""
        for tick in range(1 << 62):
            changed = False
            is_list = isinstance(self._shown, RunsPage)
            if is_list and (tick % LIST_TICKS == 0 or not self.has_listed or self._awaits):
                await self._list_runs()
                changed = True
            if (watching := self.watching) is not None:
                take = await asyncio.to_thread(watching.read)
                changed |= take() and watching is self.watching
            self._redraw(changed)
            await asyncio.sleep(TICK_SECONDS)

    async def _list_runs(self) -> None:
        from nexa_core.actions.inspecting import list_runs

        self.runs = await asyncio.to_thread(list_runs, self.workspace)
        self.has_listed = True
        if self._awaits and self.runs:
            self._awaits = False
            self.watch_run(str(self.runs[0]["run"]))

    def _redraw(self, changed: bool) -> None:
        page = self._shown
        if page is None or not page.is_composed:
            return
        if changed:
            page.renew()
            page.query_one(Keys).refresh()
        moving = self.watching is not None and (self.watching.is_moving or self.is_starting)
        if changed or moving:
            page.query_one(Head).refresh()

    @property
    def _shown(self) -> Page | None:
        """The page in front, or the one behind a dialog."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, Page)), None)

    def _page(self, place: str) -> Page:
        """The page of a place, of the watched run where it is a run's; made once, and kept."""
        run = self.watching.run if self.watching is not None and place != "runs" else ""
        if (run, place) not in self._pages:
            page = self._pages[run, place] = _make_page(place)
            # What is not installed is removed when another screen takes its place.
            self.install_screen(page, f"{place} {run}")
        return self._pages[run, place]

    def _folder(self, run: str) -> Path:
        return self.workspace.artifacts_path / run

    def watch_run(self, run: str, place: str = "run") -> None:
        """Watch a run, and show one of its screens."""
        if self.watching is None or self.watching.run != run:
            self.watching = Watching(self._folder(run), self.workspace)
        self.action_show(place)

    def action_show(self, place: str) -> None:
        """Go to one of the four screens."""
        if self.watching is None and place != "runs":
            self.notify("Choose a run first: enter.", timeout=3)
            return
        page = self._page(place)
        while len(self.screen_stack) > 2:  # rows and dialogs that were opened over a page
            self.pop_screen()
        if self._shown is not page:
            self.switch_screen(page)

    def action_leave(self) -> None:
        """One step back: from a run to the list, from anything else of a run to the run."""
        page = self._shown
        if page is not None and page.place != "runs":
            self.action_show("runs" if page.place == "run" else "run")

    def action_help(self) -> None:
        """Say what the keys do."""
        from nexa_core.tui.screens.help import HelpDialog

        if self._shown is self.screen:
            self.push_screen(HelpDialog(self._shown))

    def sign(
        self, review: Mapping[str, Any], decision: str, reason: str, sets: Sequence[str] | None
    ) -> str:
        """Sign a decision over a record; what to tell the person then. Blocks."""
        from nexa_core.actions.signing import sign

        seen = str(review["hash"])
        signed = sign(
            str(review["run"]), decision, reason, sets, workspace=self.workspace, review=seen
        )
        follows = "" if decision == "STOP" else " R lets the run go on."
        return f"{signed.reason}.{follows}" if follows else signed.reason

    @property
    def is_starting(self) -> bool:
        """Whether the watched run was told to go on, and its process has not taken it up yet."""
        watching = self.watching
        return watching is not None and watching.run in self._starting and not watching.is_moving

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Going on is offered only where there is something to go on with."""
        if action == "go_on":
            return self.watching is not None and self.watching.can_go_on and not self.is_starting
        return True

    def action_go_on(self) -> None:
        """Take the run up again, in a process of its own."""
        if self.watching is not None:
            self._starting.add(self.watching.run)
            self.run_worker(self._go_on(self.watching.run), group="go on")

    async def _go_on(self, run: str) -> None:
        from nexa_core.actions.continuing import continue_run

        try:
            going = await asyncio.to_thread(continue_run, run, workspace=self.workspace)
            self.action_show("run")
            said = await asyncio.to_thread(going.wait)
        except NexaError as error:
            said = str(error)
        finally:
            self._starting.discard(run)
        self._redraw(True)
        if said:
            self.notify(make_visible(said), severity="error", timeout=12, markup=False)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers: the four screens, then what every application has."""
        yield SystemCommand("Runs", "Choose what to watch", lambda: self.action_show("runs"))
        if self.watching is not None:
            yield SystemCommand("Run", "Progress, money, gate", lambda: self.action_show("run"))
            yield SystemCommand("Gate", "Evidence and reviews", lambda: self.action_show("gate"))
            yield SystemCommand("Rows", "Every row there is", lambda: self.action_show("rows"))
        if self.check_action("go_on", ()):
            yield SystemCommand("Go on", "Take the run up again", self.action_go_on)
        yield SystemCommand("Help", "What the keys do", self.action_help)
        yield SystemCommand("Theme", "Other colours", self.action_change_theme)
        yield SystemCommand("Screenshot", "Keep the screen as SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave; a run goes on", self.action_quit)


def _make_page(name: str) -> Page:
    """A page, whose module is loaded when it is first shown."""
    if name == "runs":
        return RunsPage()
    if name == "run":
        from nexa_core.tui.screens.run import RunPage

        return RunPage()
    if name == "gate":
        from nexa_core.tui.screens.gate import GatePage

        return GatePage()
    from nexa_core.tui.screens.rows import RowsPage

    return RowsPage()
