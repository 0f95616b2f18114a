"""A person at the screens of a real run: edits the patch, signs, and sees it go on to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from nexa_core.reviews import read_reviews
from nexa_core.tui.app import NexaApp
from nexa_core.workspace import Workspace

pytestmark = pytest.mark.slow
TEMPERATURE = "answer.sampling.temperature"


async def wait(pilot: Any, until: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what a process of its own brings."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "the screen never came to it"
        await pilot.pause()
        await asyncio.sleep(0.05)


def see(app: NexaApp) -> str:
    """What a person sees, as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip) for strip in strips)


async def test_a_signed_patch_goes_on_and_a_signed_pass_ends_done(
    run: Any, answering: Any, strict_gate: str, write_rows: Any, workspace: Workspace
) -> None:
    """Failed and waiting: e, a value, ctrl+s, R; passed and waiting: s, ctrl+s, R; done, without a shell."""
    write_rows([{"id": f"q{n}", "question": f"What is {n}?"} for n in range(900)])
    rule = {"metric": "runaway_rate", "below": 0.05}
    pipeline = answering(
        gate={"extends": strict_gate, "hard": [rule], "reviewers": ["human"]},
        pilot={"rows": 113, "max_iterations": 3},
        search_space={TEMPERATURE: {"min": 0.1, "max": 1.0}},
        scale={"accepted": 120, "shard_rows": 60},
    )
    assert (await asyncio.to_thread(run, pipeline, "r")).exit_code == 10
    app = NexaApp(workspace, "r")
    async with app.run_test(size=(100, 30)) as pilot:
        await wait(pilot, lambda: "waits for you" in see(app))
        await pilot.press("R")
        assert not app.is_starting, "what waits for a signature is not taken up"
        await pilot.press("g")
        await wait(pilot, lambda: "ITERATE" in see(app))
        await pilot.press("e", *"0.2", "up", *"colder", "ctrl+s")
        await wait(pilot, lambda: "lets the run go on" in see(app))
        await pilot.press("R")
        await wait(pilot, lambda: "is starting; leaving does not stop it" in see(app))
        await wait(pilot, lambda: len(read_reviews(workspace.reviews_path / "r")) == 3)
        await wait(pilot, lambda: app.watching.waits_for_signature and "waits for you" in see(app))
        await pilot.press("g")
        await wait(pilot, lambda: "PROCEED" in see(app))
        await pilot.press("s", *"good now", "ctrl+s")
        await wait(pilot, lambda: "lets the run go on" in see(app))
        await pilot.press("R")
        await wait(pilot, lambda: app.watching.status == "done")
        await wait(pilot, lambda: "120 accepted" in see(app) and "R Go on" not in see(app))
    reviews = read_reviews(workspace.reviews_path / "r")
    assert [review.decision for review in reviews[:4]] == [
        "ITERATE",
        "ITERATE",
        "PROCEED",
        "PROCEED",
    ]
    assert reviews[1].changes == {TEMPERATURE: [1.0, 0.2]}
