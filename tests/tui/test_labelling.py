"""`nexa label` on a screen: a key each, kept at once, blind, and taken up where one left."""

from __future__ import annotations

import pytest

from nexa_core.actions.labelling import open_labelling
from nexa_core.store.labels import LABELS, read_labels
from nexa_core.tui.labelling import LabelApp


@pytest.fixture
def said(workspace):
    """What is kept of people's verdicts, in the order of the rows."""
    return lambda: read_labels(workspace.reviews_path / "demo-1" / LABELS)


async def test_one_key_keeps_a_verdict(run, workspace, look, settle, said):
    """a accepts, d asks why and rejects, s skips, z takes back; nothing of judges is shown."""
    opened = open_labelling("demo-1", workspace=workspace, rows=4)
    app = LabelApp(opened)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: "1 of 4" in look(app))
        assert "Iron has the symbol Fe." in look(app)
        assert look(app).splitlines()[-1].endswith("q End"), "no hint for what does nothing"
        assert "It names the symbol" not in look(app) and "accepted" not in look(app)
        await pilot.press("a", "d")
        await settle(pilot, lambda: "Why is it bad?" in look(app))
        await pilot.press(*"dull", "enter")
        await settle(pilot, lambda: "3 of 4" in look(app))
        await pilot.press("s", "z")
        await settle(pilot, lambda: "3 of 4" in look(app))
        await pilot.press("q")
    rows = [row["row"] for row in opened.rows]
    kept = said()
    assert [kept[row].verdict for row in rows[:2]] == ["accept", "reject"]
    assert kept[rows[1]].reason == "dull" and rows[2] not in kept


async def test_labelling_goes_on_where_it_ended(run, workspace, look, settle):
    """A second time only what has no verdict comes; at the end it says so, and z still works."""
    open_labelling("demo-1", workspace=workspace, rows=3).say("accept")
    app = LabelApp(open_labelling("demo-1", workspace=workspace, rows=3))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: "2 of 3" in look(app))
        await pilot.press("a", "a", "a")
        await settle(pilot, lambda: "Every row has a verdict" in look(app))
        await pilot.press("z")
        await settle(pilot, lambda: "Iron has the symbol" in look(app))
