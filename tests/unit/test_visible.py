"""No text of a model or a user may steer the terminal that shows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.visible import fold_visible, make_visible

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b]52;c;cm0gLXJm\x07b", "a‹U+001B›]52;c;cm0gLXJm‹U+0007›b"),  # writes the clipboard
        ("\x1b]8;;http://evil\x1b\\link", "‹U+001B›]8;;http://evil‹U+001B›\\link"),
        ("a\x1b[2J\x1b[1;1Hb", "a‹U+001B›[2J‹U+001B›[1;1Hb"),
        ("a\x9b31mb\x85", "a‹U+009B›31mb‹U+0085›"),
        ("a\x1b", "a‹U+001B›"),
        ("back\x08 cr\rdel\x7f", "back‹U+0008› cr‹U+000D›del‹U+007F›"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("[/] [@click=app.quit]x[/]", "[/] [@click=app.quit]x[/]"),
        ("\u202eevil", "‹U+202E›evil"),
        ("zero\u200bwidth\ufe01\U000e0041", "zero‹U+200B›width‹U+FE01›‹U+E0041›"),
        ("half \ud800", "half ‹U+D800›"),
        ("Grüße, 世界, 🙂 ❤️ – “x”", "Grüße, 世界, 🙂 ❤️ – “x”"),
    ],
)
def test_what_steers_or_hides_is_shown(hostile, shown):
    """Nothing is dropped and nothing works: code points stand in; text of any language stays as it is."""
    assert make_visible(hostile) == shown


def test_one_line_stays_one_line_and_short():
    """A text made for one line has no line feed or tab, and a megabyte costs what its beginning costs."""
    assert fold_visible("a\nb\tc\x1b") == "a⏎b c‹U+001B›"
    assert fold_visible("x" * 1_000_000, 10) == "xxxxxxxxx…"


@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d\x90]P[\\;m\x07\u202e"))
    )
)
def test_nothing_that_steers_gets_through(text):
    """No control character but tab and newline, and no unseen one, is ever left; twice is as once."""
    shown = make_visible(text)
    assert not CONTROL.search(shown)
    assert make_visible(shown) == shown
