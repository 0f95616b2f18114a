"""What may be written to a terminal: text that cannot move a cursor, open a link or hide what it says."""

from __future__ import annotations

import re

__all__ = ["safe_text"]

_STRING_END = r"(?:\x07|\x1b\\|\x9c|(?=\n)|\Z)"
_SEQUENCES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*"
    + _STRING_END  # OSC, DCS, SOS, PM, APC
    + r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    + r"|\x1b[ -/]*[0-~]?"  # every other escape
    + r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # C0 but tab and newline, DEL, C1
)
_UNSEEN = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def safe_text(text: object) -> str:
    """Text without terminal control: escape sequences go whole, even unfinished ones; tab and newline stay.

    Characters that cannot be seen or that turn the reading direction are shown as `‹U+202E›`, and
    so are lone surrogates, which no terminal encoding can carry.
    """
    plain = _SEQUENCES.sub("", str(text))
    return _UNSEEN.sub(lambda found: f"‹U+{ord(found[0]):04X}›", plain)
