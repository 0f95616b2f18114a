"""A run as it is shown while it works: what the fold of its events says, as lines and as a screen."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from nexa_core.actions.watching import Outline, Progress, follow, read_outline
from nexa_core.cli.display import Display
from nexa_core.cli.lines import Lines
from nexa_core.cli.screen import Screen, draw
from nexa_core.events import (
    GateDecided,
    IterationStarted,
    PhaseStarted,
    RunResumed,
    RunStarted,
    ShardCommitted,
    ShardProgressed,
    StopRequested,
    TrainingProgressed,
    WarningRaised,
)
from nexa_core.workspace import Workspace

OUTLINE = Outline(
    "demo",
    0,
    ("pilot", "scale"),
    ("a", "b"),
    gate="pilot_qc",
    max_iterations=5,
    accepted_goal=100,
    budget_usd=2.0,
)


def told(*events, outline=OUTLINE, every=1.0) -> Progress:
    """The state after events that came one after the other, `every` seconds apart."""
    progress = Progress(outline, budget_usd=outline.budget_usd)
    for number, event in enumerate(events):
        progress.apply(event.as_json(), 1000.0 + number * every)
    return progress


def text_of(renderable, width: int = 80) -> str:
    """What a terminal of that width would show, without its styles."""
    console = Console(file=io.StringIO(), width=width, height=24, markup=False, highlight=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


START = (RunStarted("demo-1", "demo", "ab", 0), PhaseStarted("pilot"))


def test_rows_in_work_count_by_the_steps_they_have_passed():
    """A shard half through both of its steps is half of its rows."""
    shard = [ShardProgressed("iterations/01/00000", step, 50, 100) for step in ("a", "b")]
    progress = told(*START, IterationStarted(1, {}, 100), *shard)
    assert progress.rows_done == 50 and progress.goal == 100


def test_an_extension_raises_the_goal():
    """Rows beyond the plan are a goal too: the bar never stands at its end while rows come."""
    progress = told(
        *START,
        IterationStarted(1, {}, 100),
        ShardCommitted("iterations/01/00000", {"accepted": 100}, {}, 0, 1.0),
        ShardProgressed("iterations/01/00001", "a", 10, 66),
    )
    assert progress.goal == 166


def test_scale_counts_the_passing_pilot():
    """In scale the goal is accepted rows, and those of the passing iteration are among them."""
    progress = told(
        *START,
        IterationStarted(1, {}, 10),
        ShardCommitted("iterations/01/00000", {"accepted": 9, "rejected": 1}, {}, 0, 1.0),
        IterationStarted(2, {}, 10),
        ShardCommitted("iterations/02/00000", {"accepted": 5, "rejected": 5}, {}, 0, 1.0),
        PhaseStarted("scale"),
        ShardCommitted("scale/00000", {"accepted": 20}, {}, 0, 1.0),
    )
    assert progress.accepted == 25 and progress.goal == 100 and progress.counts_accepted


def test_a_shard_done_again_counts_once():
    """A shard whose file went bad is committed a second time; its rows are not doubled."""
    commit = ShardCommitted("iterations/01/00000", {"accepted": 9}, {"asked": 9}, 0, 1.0)
    assert told(*START, IterationStarted(1, {}, 10), commit, commit).accepted == 9


def test_the_rate_is_of_the_last_seconds():
    """100 rows a second now is 100, however slow the start was."""
    slow = [ShardProgressed("iterations/01/00000", s, 1, 9000) for s in ("a", "b")]
    fast = [
        ShardProgressed("iterations/01/00000", s, 1 + 100 * n, 9000)
        for n in range(1, 40)
        for s in ("a", "b")
    ]
    progress = told(*START, IterationStarted(1, {}, 9000), *slow, *fast, every=0.5)
    assert progress.rate == pytest.approx(100, rel=0.05)
    assert progress.seconds_left == pytest.approx((9000 - 3901) / 100, rel=0.06)


def test_what_a_run_plans_is_read_from_its_record(run):
    """run.json says the phases, the goal, the budget and the gate."""
    outline = read_outline(run.path)
    assert outline.phases == ("pilot", "scale")
    assert (outline.accepted_goal, outline.budget_usd, outline.gate) == (6, 2.0, "pilot_qc")


def test_a_resumed_run_shows_what_it_had_done(run, workspace):
    """A second process shows the rows of the first, also when it announces iterations again."""
    shown = Lines(write=lambda text: None)
    display = Display(Workspace(workspace, marked=True), shown)
    display.listen(RunResumed("demo-1", "interrupted"))
    for number in (1, 2):
        display.listen(IterationStarted(number, {}, 10))
    display.listen(PhaseStarted("scale"))
    assert display._progress.accepted == follow(run.path).accepted == 6


def test_lines_of_a_whole_run(run, golden, story):
    """In a log every decision and its evidence has a line with its time, frequent events have few."""
    lines: list[str] = []
    now = [0.0]
    shown = Lines(write=lines.append, clock=lambda: 1_767_323_045.0 + now[0])
    progress = Progress(read_outline(run.path))
    for at, event in story:
        now[0] = at
        progress.apply(event.as_json(), at)
        shown.update(progress, event.as_json())
    golden("run-lines.txt", "".join(f"{line[10:]}\n" for line in lines))


MOMENTS = {
    "starting": (),
    "first-rows": (
        *START,
        IterationStarted(1, {"r.sampling.temperature": 1.0, "r.sampling.top_p": 1.0}, 100),
        ShardProgressed("iterations/01/00000", "a", 40, 100),
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_the_screen_of_a_moment(name, golden):
    """At 80 × 24 the screen is these lines."""
    golden(f"screen-{name}.txt", text_of(draw(told(*MOMENTS[name]), 1010.0)))


def test_the_screen_after_a_decision(run, golden, story):
    """The gate's rules, what the reviewer changed and why stand on one screen with the work."""
    progress = Progress(read_outline(run.path), budget_usd=2.0)
    for at, event in story[:8]:
        progress.apply(event.as_json(), 1000 + at)
    progress.apply(WarningRaised("No step uses the model role 'judge'.").as_json(), 1005.0)
    progress.apply(StopRequested(2).as_json(), 1005.0)
    golden("screen-decided.txt", text_of(draw(progress, 1010.0)))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 12), (40, 24), (200, 60), (20, 5)])
def test_the_screen_fits(run, width, height, story):
    """Whatever a run says, no line is wider than the terminal and at most its height minus 1 are drawn."""
    long = GateDecided(
        3,
        "EXTEND",
        [{**check, "metric": f"m{n}"} for n in range(30) for check in story[5][1].checks[:1]],
        "",
        "x " * 500,
    )
    events = [event for _, event in story[:9]]
    parameters = {f"step.sampling.parameter_{n}": 0.123 for n in range(20)}
    more = [
        WarningRaised("w " * 300),
        long,
        replace(story[7][1], parameters=parameters),
        TrainingProgressed(1, 9, {"loss": 1.0}),
    ]
    for count in range(len(events) + len(more)):
        progress = told(*[*events, *more][:count])
        lines = text_of(draw(progress, 2000.0, width, height), width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert height < 20 or len(lines) <= height - 1


def test_model_text_on_the_screen_is_shown_as_text():
    """A reviewer's reason can neither open markup nor steer the terminal."""
    progress = told(*START, IterationStarted(1, {"a.b": 1}, 5))
    progress.changes = {"a.b": [0, 1]}
    progress.changed_for = "[/] [bold]\x1b]0;owned\x07 because"
    assert "[/] [bold]‹U+001B›]0;owned‹U+0007› because" in text_of(draw(progress, 1010.0))


def test_the_screen_leaves_nothing_behind():
    """Drawing ends with the cursor shown and the screen's lines cleared."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    screen = Screen(console)
    screen.start()
    screen.update(told(*START), {})
    screen.stop()
    written = console.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rfind("\x1b[?25l")
    assert "\x1b[2K" in written
