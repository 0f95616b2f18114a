"""The frame of a journal: one JSON object with its checksum and length, on one line.

`crc32_hex SP length SP json LF`, checksum and length over the bytes of the JSON, which never holds
a raw line feed. What follows the last whole frame is *torn* when it is the beginning of a frame (a
write that was cut), else *damaged*: bytes changed after they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from nexa_core.records import decode_json, encode_json

__all__ = ["Frame", "Scan", "encode_frame", "scan_frames"]

Frame = dict[str, Any]
_HEAD = re.compile(rb"[0-9a-f]{8} ([1-9][0-9]*) ")
_TORN_HEAD = re.compile(rb"[0-9a-f]{0,8}|[0-9a-f]{8} ([1-9][0-9]*)?")


@dataclass
class Scan:
    """The whole frames of a segment in order, and what was not whole."""

    frames: list[Frame] = field(default_factory=list)
    torn_bytes: int = 0
    damaged_bytes: int = 0
    damaged_at: int | None = None
    """Byte offset of the first damage."""


def encode_frame(value: Mapping[str, Any]) -> bytes:
    """One frame, line feed included; lone surrogates of model text are kept as they came.

    A value that is bytes is JSON already, and is taken as it is.
    """
    body = encode_json(value)
    return b"%08x %d %b\n" % (crc32(body), len(body), body)


def scan_frames(data: bytes) -> Scan:
    """Every whole frame of a segment; nothing that fails its checksum is ever among them."""
    scan, offset = Scan(), 0
    *lines, tail = data.split(b"\n")
    for line in lines:
        frame = _decode_line(line)
        if frame is None:
            _mark_damage(scan, offset, len(line) + 1)
        else:
            scan.frames.append(frame)
        offset += len(line) + 1
    # A file system that lost power may have grown the file without its data: zeros at the end.
    if _is_torn(tail.rstrip(b"\0")):
        scan.torn_bytes = len(tail)
    else:
        _mark_damage(scan, offset, len(tail))
    return scan


def _mark_damage(scan: Scan, offset: int, size: int) -> None:
    scan.damaged_bytes += size
    if scan.damaged_at is None:
        scan.damaged_at = offset


def _decode_line(line: bytes) -> Frame | None:
    body = line.split(b" ", 2)[-1]
    # Comparing the whole head also catches flips that a parser would forgive, as in 'a' and 'A'.
    if line[: -len(body)] != b"%08x %d " % (crc32(body), len(body)):
        return None
    value: Frame = decode_json(body)
    return value


def _is_torn(tail: bytes) -> bool:
    head = _HEAD.match(tail)
    if head is None:
        return _TORN_HEAD.fullmatch(tail) is not None
    return len(tail) - head.end() <= int(head[1])
