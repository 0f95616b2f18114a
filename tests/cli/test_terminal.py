"""No text of a model or a user may steer the terminal that shows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.terminal import safe_text

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b]52;c;cm0gLXJm\x07b", "ab"),  # writes the clipboard
        ("a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1b[2J\x1b[1;1Hb", "ab"),
        ("a\x9b31mb", "ab"),
        ("a\x9d0;title\x9cb", "ab"),
        ("a\x1bP$q\x1b\\b", "ab"),
        ("a\x1b]0;never ends", "a"),
        ("a\x1b]0;never ends\nnext", "a\nnext"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("bell\x07 back\x08 cr\rdel\x7f", "bell back crdel"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\u202eevil", "‹U+202E›evil"),
        ("zero\u200bwidth", "zero‹U+200B›width"),
        ("half \ud800", "half ‹U+D800›"),
        ("Grüße, 世界, 🙂 – “x”", "Grüße, 世界, 🙂 – “x”"),
    ],
)
def test_control_goes_and_what_hides_is_shown(hostile, shown):
    """Sequences go whole, even unfinished ones; text of any language stays as it is."""
    assert safe_text(hostile) == shown


@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d\x90]P[\\;m\x07\u202e"))
    )
)
def test_nothing_that_steers_gets_through(text):
    """No control character but tab and newline, and no unseen one, is ever left; twice is as once."""
    shown = safe_text(text)
    assert not CONTROL.search(shown)
    assert safe_text(shown) == shown
