"""A journal cut at every byte and with every bit flipped: the longest valid prefix, and no change unseen."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nexa_core.errors import JournalError
from nexa_core.store.frames import scan_frames
from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.segments import list_segments
from nexa_core.testing.chaos.answers import write_prose
from torture.finding import Finding

UNIT = "00000"


def write_journal(folder: Path, size: int) -> Path:
    """A journal of at least `size` bytes, as a run leaves it: intents, replies and failures."""
    folder.mkdir(parents=True)
    journal = Journal.open(folder, UNIT)
    path = list_segments(folder, UNIT)[1]
    number = 0
    while path.stat().st_size < size:
        number += 1
        journal.intend(f"call-{number}", step="answer", role="teacher", reserved_nano=10**6)
        if number % 7 == 0:
            journal.fail(f"call-{number}", error="overload: 503", cost_nano=0, at_risk_nano=0)
        text = write_prose(b"%d" % number, min(700, size // 8), 0.5) + " – naïve “ß” 漢字"
        journal.reply(f"call-{number}", reply={"text": text}, cost_nano=1234)
    journal.close()
    return path


def cut_everywhere(folder: Path, size: int) -> Finding:
    """Cut a journal after every byte: what is read is the frames that were whole before the cut."""
    path = write_journal(folder / "journal", size)
    data = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    whole = read_journal(path.parent, UNIT)
    wrong = []
    for cut in range(len(data), -1, -1):
        os.truncate(path, cut)
        kept = max((end for end in ends if end <= cut), default=0)
        while ends and ends[-1] > cut:
            ends.pop()
        found = read_journal(path.parent, UNIT)
        frames = data[:kept].count(b'"kind":"reply"')
        same = all(whole.replies[name] == frame for name, frame in found.replies.items())
        if len(found.replies) != frames or found.torn_bytes != cut - kept or not same:
            wrong.append(cut)
    measured = f"{len(data) + 1:,} cuts, {len(wrong)} of them not read as the longest valid prefix"
    return Finding(
        "journal cut at every byte",
        "a journal of 64 KB, cut at every byte: the longest valid prefix",
        measured,
        not wrong and len(data) >= 65_536,
        {"wrong": wrong[:20]},
    )


def flip_every_bit(folder: Path, size: int) -> Finding:
    """Flip every bit of a journal: it is refused, or its last frame counts as torn; none is altered."""
    path = write_journal(folder / "journal", size)
    data = path.read_bytes()
    unseen, altered = [], []
    known = {json.dumps(frame, sort_keys=True) for frame in scan_frames(data).frames}
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        scan = scan_frames(bytes(flipped))
        if scan.damaged_at is None and not scan.torn_bytes:
            unseen.append(bit)
        if any(json.dumps(frame, sort_keys=True) not in known for frame in scan.frames):
            altered.append(bit)
        if bit % 64 == 0 and not _refuses(path, flipped):
            unseen.append(bit)
    measured = (
        f"{8 * len(data):,} flips, {len(unseen)} undetected, {len(altered)} with an altered frame"
    )
    return Finding(
        "every bit flipped",
        "a journal of 4 KB, every bit flipped: 100 % detected",
        measured,
        not unseen and not altered and len(data) >= 4096,
        {"unseen": unseen[:20], "altered": altered[:20]},
    )


def _refuses(path: Path, data: bytes) -> bool:
    """Whether a journal of these bytes is refused, or its last frame left out."""
    path.write_bytes(data)
    try:
        return read_journal(path.parent, UNIT).torn_bytes > 0
    except JournalError:
        return True
