"""What the screens show and what their keys do, on a run that waits for a person."""

from __future__ import annotations

import re

import pytest

from nexa_core.events import RunFinished
from nexa_core.reviews import read_reviews
from nexa_core.tui.app import NexaApp

WALK = [
    ("run", (), "Rows as they are made"),
    ("run-chart", ("m",), "pilot 1"),
    ("gate", ("g",), "pilot 2"),
    ("gate-opinion", ("down", "down", "down"), "cites  2-1"),
    ("cited", ("c",), "Cited"),
    ("gate-earlier", ("escape", "["), "look 1 of 2"),
    ("sign", ("]", "s"), "ctrl+s"),
    ("help", ("escape", "question_mark"), "One step back"),
    ("rows", ("escape", "4"), "State the symbol"),
    ("row", ("enter",), "provenance"),
    ("rows-rejected", ("escape", "tab", "tab"), "✗ runaway"),
]
"""Screens one after the other, the keys that lead from one to the next, and what is seen then."""


async def test_each_screen_as_text(run, watch, look, golden, settle):
    """At 80 × 24 every screen says what it should, line by line."""
    async with watch() as pilot:
        for name, keys, until in WALK:
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            await settle(pilot, lambda until=until: until in look(pilot.app))
            await pilot.pause(0.02)
            golden(f"{name}.txt", look(pilot.app) + "\n")


async def test_the_list_of_runs(run, watch, look, workspace):
    """State, decision, rows, cost and age, a line each; enter watches the run under the cursor."""
    async with watch(run=None, until="demo-1") as pilot:
        line = next(line for line in look(pilot.app).splitlines() if "demo-1" in line)
        assert re.search(r"demo-1 +waiting +PROCEED +200 +0 +\$0\.024 +\d+ d ago", line)
        await pilot.press("enter")
        await pilot.pause()
        assert "Pilot" in look(pilot.app) or "Waiting" in look(pilot.app)


async def test_the_first_run_that_comes_is_watched(workspace, request, look, settle):
    """`nexa watch latest` before there is a run: it says so, and shows the run as soon as it is there."""
    app = NexaApp(workspace, awaits=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: "There is no run here yet" in look(app))
        request.getfixturevalue("run")
        await settle(pilot, lambda: "g opens the gate" in look(app))


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 60), marks=pytest.mark.slow)])
async def test_no_line_is_wider_or_screen_higher_than_the_terminal(size, run, watch, look):
    """Every screen fills its terminal and no more, and the hints are always on the last line."""
    async with watch(size=size) as pilot:
        for key in "1234":
            await pilot.press(key)
            await pilot.pause(0.05)
            lines = look(pilot.app).splitlines()
            assert len(lines) == size[1]
            assert all(len(line) <= size[0] for line in lines)
            assert lines[-1].endswith("? Help")


async def test_a_screen_follows_the_run(run, log, watch, look, settle):
    """What the log says next is seen within a moment."""
    async with watch(until="waiting") as pilot:
        log(run, (20.0, RunFinished("stopped", 1, "a person said so")))
        await settle(pilot, lambda: "a person said so" in look(pilot.app))


async def test_signing_keeps_the_reason_and_the_decision(run, watch, look, workspace, settle):
    """s, a reason, ctrl+s: a signed record over the one that was seen."""
    async with watch("g", "s", until="ctrl+s") as pilot:
        await pilot.press(*"fine by me", "ctrl+s")
        await settle(pilot, lambda: len(read_reviews(workspace.reviews_path / "demo-1")) == 3)
        signed = read_reviews(workspace.reviews_path / "demo-1")[-1]
        assert signed.decision == "PROCEED" and signed.signature["reason"] == "fine by me"
        await settle(pilot, lambda: "look 3 of 3" in look(pilot.app))


async def test_a_veto_iterates_with_an_edited_patch(run, watch, workspace, settle):
    """v, a reason, enter, another value, enter: the run goes on with that value."""
    async with watch("g", "v", until="0.05 to 1.0") as pilot:
        await pilot.press(*"too dry", "enter", "end", *["backspace"] * 3, *"0.6", "enter")
        await settle(pilot, lambda: len(read_reviews(workspace.reviews_path / "demo-1")) == 3)
        signed = read_reviews(workspace.reviews_path / "demo-1")[-1]
        assert signed.decision == "ITERATE"
        assert signed.changes == {"respond.sampling.temperature": [0.3, 0.6]}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("v", "ctrl+s"), "A signature needs a reason"),
        (("v", *"no", "enter", "home", *"9", "enter"), "The change is refused"),
        pytest.param(("v", *"no", "ctrl+s"), "ITERATE changes nothing", marks=pytest.mark.slow),
    ],
)
async def test_what_cannot_be_signed_is_said_and_can_be_mended(
    keys, told, run, watch, look, settle, workspace
):
    """The dialog stays with what was typed in it, and nothing is recorded."""
    async with watch("g", *keys) as pilot:
        await settle(pilot, lambda: told in look(pilot.app))
        assert "ctrl+s" in look(pilot.app)
        assert len(read_reviews(workspace.reviews_path / "demo-1")) == 2


async def test_an_override_is_said_before_it_is_signed(run, watch, look, settle):
    """PROCEED over a rule that does not pass names the rule, and what the signature leaves behind."""
    from nexa_core.tui.screens.signing import SigningDialog

    async with watch("g", until="Reviewers") as pilot:
        await pilot.app.push_screen(SigningDialog(pilot.app.watching.reviews[0], "PROCEED"))
        await settle(pilot, lambda: "overrides  runaway_rate INCONCLUSIVE" in look(pilot.app))
        assert "every later artefact will be marked" in look(pilot.app)
        await pilot.press("ctrl+d")
        await settle(pilot, lambda: "overrides" not in look(pilot.app))


async def test_only_the_last_look_can_be_signed(run, watch, look, settle):
    """At an earlier look the key says where to go instead."""
    async with watch("g", "[", "s") as pilot:
        await settle(pilot, lambda: "Only the last look" in look(pilot.app))


async def test_reasons_and_units_filter_the_rows(run, watch, look, settle):
    """f goes through the reasons, u through the units, / to a row by its number."""
    async with watch("r", "f", until="1 of 19") as pilot:
        await pilot.press("f", "u")
        await settle(pilot, lambda: "1 of 200" in look(pilot.app))
        await pilot.press("slash", *"150", "enter")
        await settle(pilot, lambda: "150 of 200" in look(pilot.app))


async def test_the_palette_leads_everywhere(run, watch, look, settle):
    """ctrl+p and a word is a way to every screen."""
    async with watch("ctrl+p") as pilot:
        await pilot.press(*"Gate")
        await settle(pilot, lambda: "Evidence and reviews" in look(pilot.app))
        await pilot.press("enter")
        await settle(pilot, lambda: "Reviewers" in look(pilot.app))


async def test_going_on_is_offered_where_it_can_be(run, watch, look, log, settle):
    """A run that lacks a signature cannot go on, a signed one can, one that is done cannot."""
    async with watch(until="g opens the gate") as pilot:
        assert "R Go on" not in look(pilot.app)
        await pilot.press("g", "s", *"fine", "ctrl+s", "2")
        await settle(pilot, lambda: "R Go on" in look(pilot.app))
        assert "signed  R lets the run go on" in look(pilot.app)
        log(run, (20.0, RunFinished("done", 0)))
        await settle(pilot, lambda: "R Go on" not in look(pilot.app))


async def test_the_list_is_read_when_it_is_first_shown(run, watch, look, settle):
    """From a run one comes to the list, and sees its runs before the next round of reading."""
    async with watch() as pilot:
        await pilot.press("1")
        await settle(pilot, lambda: re.search(r"demo-1 +waiting", look(pilot.app)))


async def test_one_goes_back_and_forth(run, watch, look, settle):
    """Every screen can be left and come back to, as often as one likes, and keeps its place."""
    async with watch("r", "down", "down", until="3 of 400") as pilot:
        for keys, seen in [
            ("1", "demo-1"),
            ("3", "Reviewers"),
            ("2", "Rows as"),
            ("4", "3 of 400"),
        ] * 2:
            await pilot.press(keys)
            await settle(pilot, lambda seen=seen: seen in look(pilot.app))


async def test_what_happens_is_seen_after_cited_rows_were_looked_at(run, log, watch, look, settle):
    """No screen and no dialog stops the following of the run."""
    async with watch("g", "c", "4", "g", "3", "s", "escape", "2", until="Waiting") as pilot:
        log(run, (20.0, RunFinished("stopped", 1, "a person said so")))
        await settle(pilot, lambda: "a person said so" in look(pilot.app))


async def test_q_leaves_with_exit_code_zero(run, watch):
    """Leaving is a clean end."""
    async with watch("q") as pilot:
        await pilot.pause()
    assert pilot.app.return_code == 0
