"""What models, judges, reviewers and files wrote is shown literally on every screen, and does nothing."""

from __future__ import annotations

import time
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nexa_core.tui.folding import fold_text
from nexa_core.visible import make_visible

SHOWN = ("‹U+001B›", "[/]", "[@click=app.quit]")
PLACES = [
    ("run", (), SHOWN),
    ("run with a chart", ("m",), SHOWN[:1]),
    ("gate", ("g",), SHOWN),
    ("a rule", ("g", "["), SHOWN),
    ("an opinion", ("g", "down", "down", "down"), SHOWN),
    ("rows", ("r",), SHOWN[:1]),
    ("rows by reason", ("r", "f"), SHOWN[:1]),
    ("a row", ("r", "enter"), SHOWN),
    ("the end of a row", ("r", "enter", "end"), SHOWN),
    ("cited rows", ("g", "down", "down", "down", "c"), SHOWN),
    ("signing", ("g", "s"), ()),
]


def list_hidden(text: str) -> list[str]:
    """Characters that steer or hide."""
    return [
        c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]


@pytest.mark.parametrize(
    ("keys", "shown"), [place[1:] for place in PLACES], ids=[p[0] for p in PLACES]
)
async def test_hostile_text_is_only_text(keys, shown, hostile, watch, look):
    """Escapes, links, markup, actions, bidi and zero widths are there to be read, and the screens live on."""
    async with watch(*keys, size=(160, 50), until=shown[0] if shown else "Sign") as pilot:
        seen = look(pilot.app)
        assert [part for part in shown if part not in seen.replace("\n", "")] == []
        assert list_hidden(seen) == []
        strips = pilot.app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert not any("@click" in style.meta or style.link for style in styles)
        await pilot.press("escape", "1", "2")
        assert pilot.app.is_running


async def test_a_hostile_warning_in_a_toast_is_only_text(
    hostile, watch, look, settle, hostile_text
):
    """What a failed continuation says is model text too."""
    from nexa_core.errors import UsageError

    def refuse(*_: object, **__: object) -> None:
        raise UsageError(hostile_text)

    async with watch() as pilot:
        pytest.MonkeyPatch().setattr("nexa_core.tui.app.continue_run", refuse)
        await pilot.press("R")
        await settle(pilot, lambda: "[@click=app.quit]" in look(pilot.app))
        assert list_hidden(look(pilot.app)) == []


async def test_a_line_of_a_megabyte_is_there_from_end_to_end(run, watch, look, settle):
    """It opens in a moment, pages, and its last word is reached."""
    path = run.iteration(1).shards / "00000.parquet"
    table = pq.read_table(path)
    long = "A" + "\u202ex [/] " * 150_000 + "ZZZ-the-end"
    column = pa.array([long, *["x"] * (table.num_rows - 1)])
    at = table.column_names.index("response")
    pq.write_table(table.set_column(at, "response", column), path)
    async with watch("r", until="‹U+202E›x [/]") as pilot:
        await pilot.press("enter")
        await settle(pilot, lambda: "A‹U+202E›x [/]" in look(pilot.app))
        began = time.perf_counter()
        await pilot.press("pagedown", "pagedown")
        assert time.perf_counter() - began < 1.0
        await pilot.press("end")
        await settle(pilot, lambda: "ZZZ-the-end" in look(pilot.app))


@given(
    st.text(alphabet=st.sampled_from("ab 世❤️\n\t\x1b\u202e🙂é"), max_size=80), st.integers(4, 20)
)
def test_folding_loses_nothing_and_keeps_to_the_width(text, width):
    """Every character is on some line, and no line is wider than asked."""
    lines = fold_text(text, width)
    assert all(cell_len(line) <= width for line in lines)
    shown = make_visible(text).replace("\t", "    ").replace("\n", "")
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


def test_nothing_of_a_row_reaches_a_screen_without_the_sanitiser():
    """The words of the screens come from `ink` and `Pane`: both make what they are given visible."""
    from nexa_core.tui.ink import ink

    drawn = ink(("\x1b[2J[/]", "bold"), "\u202e\n").plain
    assert drawn == "‹U+001B›[2J[/]‹U+202E›⏎"
    assert fold_text("\x1b\u200b", 40) == ["‹U+001B›‹U+200B›"]
