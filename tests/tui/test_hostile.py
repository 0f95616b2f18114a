"""What models, judges, reviewers and files wrote is shown literally on every screen, and does nothing."""

from __future__ import annotations

import time
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len, get_character_cell_size

from nexa_core.tui.folding import fold_text
from nexa_core.visible import make_visible

SHOWN = ("‹U+001B›", "[/]", "[@click=app.quit]")
WALK = [
    ((), SHOWN),
    (("m",), SHOWN[2:]),
    (("g",), SHOWN),
    (("down", "down", "down"), SHOWN),
    (("c",), SHOWN),
    (("end",), SHOWN),
    (("escape", "["), SHOWN),
    (("]", "s"), ("ctrl+s",)),
    (("escape", "4"), SHOWN[1:]),
    (("f",), SHOWN[1:]),
    (("enter",), SHOWN),
]
"""Every screen, one after the other: the keys that lead on, and what is seen then."""


def list_hidden(text: str) -> list[str]:
    """Characters that steer or hide."""
    return [
        c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]


async def test_hostile_text_is_only_text(hostile, watch, look, settle):
    """Escapes, links, markup, actions, bidi and zero widths are there to be read, and the screens live on."""
    async with watch(size=(160, 50)) as pilot:
        for keys, shown in WALK:
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            await settle(pilot, lambda shown=shown: all(part in look(pilot.app) for part in shown))
            assert list_hidden(look(pilot.app)) == []
            strips = pilot.app.screen._compositor.render_strips()
            styles = [segment.style for strip in strips for segment in strip if segment.style]
            assert not any("@click" in style.meta or style.link for style in styles)
        assert pilot.app.is_running


async def test_a_hostile_warning_in_a_toast_is_only_text(
    hostile, watch, look, settle, hostile_text, monkeypatch
):
    """What a failed continuation says is model text too."""
    from nexa_core.errors import UsageError

    def refuse(*_: object, **__: object) -> None:
        raise UsageError(hostile_text)

    async with watch() as pilot:
        monkeypatch.setattr("nexa_core.actions.continuing.continue_run", refuse)
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


def fold_by_character(text: str, width: int) -> list[str]:
    """Folding as it is meant: a line takes what fits, and breaks at a space where that leaves a third."""
    lines = []
    for line in make_visible(text).replace("\t", "    ").split("\n"):
        left = line
        while cells_of(left) > width:
            fits = [n for n in range(len(left)) if cells_of(left[:n]) <= width]
            stop = max(fits[-1], 1)
            at = stop if left[stop] == " " else left.rfind(" ", 0, stop)
            at = at if at > width // 3 else stop
            lines.append(left[:at])
            left = left[at + 1 :] if left[at] == " " else left[at:]
        lines.append(left)
    return lines


def cells_of(text: str) -> int:
    return sum(1 if each == "\ufe0f" else get_character_cell_size(each) for each in text)


@given(st.text(st.sampled_from("ab 世漢❤️\n\t\x1b\u0301🙂é"), max_size=60), st.integers(4, 20))
def test_folding_quickly_is_folding_by_character(text, width):
    """Lines of one width, of two and of several are folded where one character after the other is."""
    assert fold_text(text, width) == fold_by_character(text, width)


def test_a_megabyte_in_chinese_is_folded_as_quickly_as_one_may_wait():
    """No more work than a few passes over the text; a notice of it costs what is shown of it."""
    from nexa_core.tui.ink import wrap

    text = "漢字かな交じり文" * 125_000
    began = time.process_time()
    assert len(fold_text(text, 80)) == 25_000
    assert time.process_time() - began < 1.0
    began = time.process_time()
    assert len(wrap(text, 80, most=2)) == 2
    assert time.process_time() - began < 0.1


def test_nothing_of_a_row_reaches_a_screen_without_the_sanitiser():
    """The words of the screens come from `ink` and `Pane`: both make what they are given visible."""
    from nexa_core.tui.ink import ink

    drawn = ink(("\x1b[2J[/]", "bold"), "\u202e\n").plain
    assert drawn == "‹U+001B›[2J[/]‹U+202E›⏎"
    assert fold_text("\x1b\u200b", 40) == ["‹U+001B›‹U+200B›"]
